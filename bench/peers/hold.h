// The hold model, for any queue with Push(time, key) and Pop(), which returns the earliest time.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

inline constexpr uint32_t HOLDS_PER_SAMPLE = 2000;
inline constexpr std::chrono::milliseconds TIME_PER_SIZE{60};
// On a busy machine most of that time may be other programs'.
inline constexpr size_t SAMPLES_PER_SIZE = 101;
inline constexpr std::chrono::seconds MOST_TIME_PER_SIZE{5};
// A queue that collapses on a mix of delays would not end its warm-up.
inline constexpr std::chrono::seconds MOST_WARM_UP{1};

/** A power of two of delays, drawn beforehand: random numbers are not what is measured. */
inline std::vector<int64_t> ReadDelays(const char *file) {
  std::FILE *input = std::fopen(file, "r");
  if (!input) {
    std::perror(file);
    std::exit(1);
  }
  std::vector<int64_t> delays;
  for (long long delay; std::fscanf(input, "%lld", &delay) == 1;) delays.push_back(delay);
  std::fclose(input);
  if (delays.empty() || (delays.size() & (delays.size() - 1)) != 0) {
    std::fprintf(stderr, "%s: expected a power of two of delays, found %zu\n", file, delays.size());
    std::exit(1);
  }
  return delays;
}

/** The median over samples of 2,000 holds each, in the steady state. */
template <class Queue>
double HoldsPerSecond(Queue &queue, uint32_t size, const std::vector<int64_t> &delays) {
  using Clock = std::chrono::steady_clock;
  const uint32_t mask = delays.size() - 1;
  uint32_t key = 0;
  while (key < size) {
    queue.Push(delays[key & mask], key);
    key++;
  }
  auto hold = [&] {
    for (uint32_t i = 0; i < HOLDS_PER_SAMPLE; i++) {
      const int64_t time = queue.Pop();
      queue.Push(time + delays[key & mask], key);
      key++;
    }
  };
  const auto start = Clock::now();
  const uint32_t warmUp = (200000 + 2 * size) / HOLDS_PER_SAMPLE;
  for (uint32_t i = 0; i < warmUp && Clock::now() - start < MOST_WARM_UP; i++) hold();

  std::vector<double> seconds;
  const auto begin = Clock::now();
  for (auto spent = Clock::duration::zero();
       spent < TIME_PER_SIZE || (seconds.size() < SAMPLES_PER_SIZE && spent < MOST_TIME_PER_SIZE);
       spent = Clock::now() - begin) {
    const auto before = Clock::now();
    hold();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - before).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return HOLDS_PER_SAMPLE / seconds[seconds.size() / 2];
}

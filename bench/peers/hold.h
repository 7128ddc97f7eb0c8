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

/** Times in nanoseconds, one per line, drawn beforehand: random numbers are not what is measured. */
inline std::vector<int64_t> ReadTimes(const char *file) {
  std::FILE *input = std::fopen(file, "r");
  if (!input) {
    std::perror(file);
    std::exit(1);
  }
  std::vector<int64_t> times;
  for (long long time; std::fscanf(input, "%lld", &time) == 1;) times.push_back(time);
  std::fclose(input);
  return times;
}

/** What is pending in the steady state, and a power of two of delays. */
struct Mix {
  std::vector<int64_t> delays;
  std::vector<int64_t> pending;
};

/** `count`: how many are to be pending at most. */
inline Mix ReadMix(const char *delayFile, const char *pendingFile, size_t count) {
  Mix mix{ReadTimes(delayFile), ReadTimes(pendingFile)};
  if (mix.delays.empty() || (mix.delays.size() & (mix.delays.size() - 1)) != 0) {
    std::fprintf(stderr, "%s: expected a power of two of delays, found %zu\n", delayFile, mix.delays.size());
    std::exit(1);
  }
  if (mix.pending.size() < count) {
    std::fprintf(stderr, "%s: expected %zu times at least, found %zu\n", pendingFile, count, mix.pending.size());
    std::exit(1);
  }
  return mix;
}

/** The median over samples of 2,000 holds each, in the steady state. */
template <class Queue>
double HoldsPerSecond(Queue &queue, uint32_t size, const Mix &mix) {
  const std::vector<int64_t> &delays = mix.delays;
  using Clock = std::chrono::steady_clock;
  const uint32_t mask = delays.size() - 1;
  uint32_t key = 0;
  while (key < size) {
    queue.Push(mix.pending[key], key);
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
  const uint32_t warmUp = 200000 / HOLDS_PER_SAMPLE;
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

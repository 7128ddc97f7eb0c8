// The hold model of bench/event-list.bench.ts with C++'s std::priority_queue: with N events pending, take the earliest
// and add another, over and over. An event is 16 bytes (time, order key, what to do), which suits the queue: Podwire
// keeps a key of 53 bits.
//
//   hold DELAYS PENDING SIZE...    Files of nanoseconds, one per line: delays, and when what is pending at first is due.
//                                  Prints `SIZE 9174312` (holds per second) for each size.

#include <cstdint>
#include <cstdio>
#include <queue>
#include <vector>

#include "hold.h"

namespace {

struct Event {
  int64_t time;
  uint32_t key;
  uint32_t action;
};

struct Later {
  bool operator()(const Event &a, const Event &b) const {
    return a.time != b.time ? a.time > b.time : a.key > b.key;
  }
};

class PriorityQueue {
 public:
  void Push(int64_t time, uint32_t key) { events_.push({time, key, 0}); }

  int64_t Pop() {
    const int64_t time = events_.top().time;
    events_.pop();
    return time;
  }

 private:
  std::priority_queue<Event, std::vector<Event>, Later> events_;
};

}  // namespace

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: hold DELAYS PENDING SIZE...\n");
    return 2;
  }
  for (int i = 3; i < argc; i++) {
    const int size = std::atoi(argv[i]);
    PriorityQueue queue;
    std::printf("%s %.0f\n", argv[i], HoldsPerSecond(queue, size, ReadMix(argv[1], argv[2], size)));
  }
}

// The hold model with a scheduler of ns-3: bare insertion and removal, without the simulator and its event objects.
//
//   ns3-hold SCHEDULER DELAYS PENDING SIZE...       as hold.cc; SCHEDULER is `ns3::MapScheduler` or one of its kin

#include <cstdint>
#include <cstdio>
#include <vector>

#include "hold.h"
#include "ns3/core-module.h"

namespace {

class SchedulerQueue {
 public:
  explicit SchedulerQueue(const char *type) {
    ns3::ObjectFactory factory;
    factory.SetTypeId(type);
    scheduler_ = factory.Create<ns3::Scheduler>();
  }

  void Push(int64_t time, uint32_t key) {
    ns3::Scheduler::Event event;
    event.impl = nullptr;
    event.key.m_ts = time;
    event.key.m_uid = key;
    event.key.m_context = 0;
    scheduler_->Insert(event);
  }

  int64_t Pop() { return scheduler_->RemoveNext().key.m_ts; }

 private:
  ns3::Ptr<ns3::Scheduler> scheduler_;
};

}  // namespace

int main(int argc, char **argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: ns3-hold SCHEDULER DELAYS PENDING SIZE...\n");
    return 2;
  }
  for (int i = 4; i < argc; i++) {
    const int size = std::atoi(argv[i]);
    SchedulerQueue queue(argv[1]);
    std::printf("%s %.0f\n", argv[i], HoldsPerSecond(queue, size, ReadMix(argv[2], argv[3], size)));
  }
}

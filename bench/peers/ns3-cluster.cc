// What bench/end-to-end.bench.ts simulates, in ns-3, as close as it comes: nodes with a bridge of pods each, wired to one
// switch; every pod answers, and asks one pod of the cluster once a millisecond, 512 bytes there and back over UDP.
//
//   ns3-cluster NODES PODS_PER_NODE PACKETS     prints `packets 67000`, `undisturbed 71000` (per second of CPU), `logging 0`
//
// ns-3 has no NAT, no connection tracking and no packet filter: a pod is asked at its own address. It charges no CPU time
// either. Devices are SimpleNetDevices, which are cheaper than CSMA and, as veth, full duplex; queueing disciplines are
// taken out. So ns-3 does less here than what it is compared with.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "ns3/bridge-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/traffic-control-module.h"

using namespace ns3;

static const uint16_t SERVER_PORT = 8080;
static const uint32_t MESSAGE_BYTES = 512;
static const Time INTERVAL = MilliSeconds(1);
static const uint32_t SLICE_PACKETS = 600;  // some twenty milliseconds

static uint64_t delivered = 0;

static void Answer(Ptr<Socket> socket) {
  Address from;
  while (Ptr<Packet> message = socket->RecvFrom(from)) {
    delivered++;
    socket->SendTo(message, 0, from);
  }
}

static void TakeAnswer(Ptr<Socket> socket) {
  while (socket->Recv()) delivered++;
}

static void Ask(Ptr<Socket> socket) {
  socket->Send(Create<Packet>(MESSAGE_BYTES));
  Simulator::Schedule(INTERVAL, &Ask, socket);
}

// A cable between two nodes. Returns the device of each.
static NetDeviceContainer Connect(Ptr<Node> a, Ptr<Node> b, DataRate rate, Time delay) {
  SimpleNetDeviceHelper helper;
  helper.SetDeviceAttribute("DataRate", DataRateValue(rate));
  helper.SetChannelAttribute("Delay", TimeValue(delay));
  return helper.Install(NodeContainer(a, b));
}

static Ptr<Ipv4StaticRouting> RoutesOf(Ptr<Node> node) {
  return Ipv4StaticRoutingHelper().GetStaticRouting(node->GetObject<Ipv4>());
}

// Assigning addresses puts a queueing discipline before each device.
static void RemoveQueueDiscs(const NetDeviceContainer &devices) {
  for (uint32_t i = 0; i < devices.GetN(); i++) {
    Ptr<NetDevice> device = devices.Get(i);
    Ptr<TrafficControlLayer> layer = device->GetNode()->GetObject<TrafficControlLayer>();
    if (layer && layer->GetRootQueueDiscOnDevice(device)) layer->DeleteRootQueueDiscOnDevice(device);
  }
}

static Ipv4InterfaceContainer Assign(const NetDeviceContainer &devices, const std::string &net, const char *mask) {
  Ipv4AddressHelper helper(net.c_str(), mask);
  Ipv4InterfaceContainer interfaces = helper.Assign(devices);
  RemoveQueueDiscs(devices);
  return interfaces;
}

static std::string PodNet(uint32_t node) {
  return "10." + std::to_string(node / 250) + "." + std::to_string(node % 250) + ".0";
}

// Returns the addresses of the pods.
static std::vector<Ipv4Address> Build(uint32_t nodes, uint32_t podsPerNode, NodeContainer &pods) {
  NodeContainer hosts, fabric;
  hosts.Create(nodes);
  pods.Create(nodes * podsPerNode);
  fabric.Create(1);
  InternetStackHelper stack;
  stack.SetRoutingHelper(Ipv4StaticRoutingHelper());
  stack.SetIpv6StackInstall(false);
  stack.Install(hosts);
  stack.Install(pods);

  NetDeviceContainer nics, ports;
  for (uint32_t h = 0; h < nodes; h++) {
    NetDeviceContainer ends = Connect(hosts.Get(h), fabric.Get(0), DataRate("10Gbps"), MicroSeconds(5));
    nics.Add(ends.Get(0));
    ports.Add(ends.Get(1));
  }
  BridgeHelper().Install(fabric.Get(0), ports);
  Ipv4InterfaceContainer nodeAddresses = Assign(nics, "192.168.0.0", "255.255.0.0");

  std::vector<Ipv4Address> podAddresses;
  for (uint32_t h = 0; h < nodes; h++) {
    NetDeviceContainer inside, outside;
    for (uint32_t p = 0; p < podsPerNode; p++) {
      NetDeviceContainer veth = Connect(pods.Get(h * podsPerNode + p), hosts.Get(h), DataRate(0), Time(0));
      inside.Add(veth.Get(0));
      outside.Add(veth.Get(1));
    }
    NetDeviceContainer devices = BridgeHelper().Install(hosts.Get(h), outside);
    devices.Add(inside);
    Ipv4InterfaceContainer addresses = Assign(devices, PodNet(h), "255.255.255.0");
    for (uint32_t p = 0; p < podsPerNode; p++) {
      podAddresses.push_back(addresses.GetAddress(1 + p));
      RoutesOf(pods.Get(h * podsPerNode + p))->SetDefaultRoute(addresses.GetAddress(0), 1);
    }
    // Routes to the pods of all other nodes, as a CNI plugin of the host-gateway kind keeps them.
    for (uint32_t other = 0; other < nodes; other++) {
      if (other == h) continue;
      RoutesOf(hosts.Get(h))->AddNetworkRouteTo(
          Ipv4Address(PodNet(other).c_str()), Ipv4Mask("255.255.255.0"), nodeAddresses.GetAddress(other), 1);
    }
  }
  return podAddresses;
}

// A Service picks an endpoint at random and conntrack keeps to it: here, each pod has one other pod that it asks.
static void StartEcho(const NodeContainer &pods, const std::vector<Ipv4Address> &addresses) {
  std::mt19937 random(1);
  const uint32_t count = pods.GetN();
  for (uint32_t i = 0; i < count; i++) {
    Ptr<Socket> server = Socket::CreateSocket(pods.Get(i), UdpSocketFactory::GetTypeId());
    server->Bind(InetSocketAddress(Ipv4Address::GetAny(), SERVER_PORT));
    server->SetRecvCallback(MakeCallback(&Answer));

    const uint32_t asked = (i + 1 + random() % (count - 1)) % count;
    Ptr<Socket> client = Socket::CreateSocket(pods.Get(i), UdpSocketFactory::GetTypeId());
    client->Bind();
    client->Connect(InetSocketAddress(addresses[asked], SERVER_PORT));
    client->SetRecvCallback(MakeCallback(&TakeAnswer));
    Simulator::ScheduleWithContext(pods.Get(i)->GetId(), NanoSeconds(uint64_t{i} * 618033989 % 1000000), &Ask, client);
  }
}

static void RunFor(Time duration) {
  Simulator::Stop(duration);
  Simulator::Run();
}

// Of this process: what others do on the machine meanwhile does not count.
static double CpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

// Builds for debugging log what every function is called with, if asked to; the test for it costs time even if not.
static bool LibraryCanLog() {
  std::ostringstream text;
  std::streambuf *before = std::clog.rdbuf(text.rdbuf());
  LogComponentEnable("RngSeedManager", LOG_LEVEL_ALL);
  RngSeedManager::GetSeed();
  LogComponentDisable("RngSeedManager", LOG_LEVEL_ALL);
  std::clog.rdbuf(before);
  return !text.str().empty();
}

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: ns3-cluster NODES PODS_PER_NODE PACKETS\n");
    return 2;
  }
  const uint32_t nodes = std::atoi(argv[1]), podsPerNode = std::atoi(argv[2]);
  const double virtualMs = std::atof(argv[3]) / (2.0 * nodes * podsPerNode);
  // By default a node waits up to 10 ms before it asks by ARP, which is longer than short runs are.
  Config::SetDefault("ns3::ArpL3Protocol::RequestJitter", StringValue("ns3::ConstantRandomVariable[Constant=0]"));

  NodeContainer pods;
  const std::vector<Ipv4Address> addresses = Build(nodes, podsPerNode, pods);
  StartEcho(pods, addresses);
  RunFor(MicroSeconds(virtualMs * 1000 / 5));  // fills ARP caches and forwarding tables
  const uint32_t slices = std::max(1.0, std::round(std::atof(argv[3]) / SLICE_PACKETS));
  std::vector<double> rates;
  const uint64_t deliveredBefore = delivered;
  const double before = CpuSeconds();
  for (uint32_t slice = 0; slice < slices; slice++) {
    const uint64_t deliveredEarlier = delivered;
    const double began = CpuSeconds();
    RunFor(NanoSeconds(virtualMs * 1e6 / slices));
    rates.push_back((delivered - deliveredEarlier) / (CpuSeconds() - began));
  }
  const double seconds = CpuSeconds() - before;
  std::sort(rates.begin(), rates.end(), std::greater<>());
  const double counted = delivered - deliveredBefore, expected = virtualMs * 2 * nodes * podsPerNode;
  const double cut = 2.0 * nodes * podsPerNode;  // of each pod, the question at either end of a run that is no whole period
  if (counted < 0.98 * expected - cut) {
    std::fprintf(stderr, "ns-3 delivered %.0f of %.0f packets\n", counted, expected);
    return 1;
  }
  std::printf("packets %.0f\nundisturbed %.0f\nlogging %d\n", counted / seconds, rates[slices / 10], LibraryCanLog());
  Simulator::Destroy();
}

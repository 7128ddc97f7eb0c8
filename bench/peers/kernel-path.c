// What the kernel of this machine does on one core: UDP requests of 512 bytes and their responses, from pod to pod. One
// thread sends 64 requests by one system call, answers them by another, and takes the answers. What a socket sends is
// carried through veth, bridge, netfilter and routing to the other socket's queue before the call returns, on the same
// CPU. Needs root, ip and iptables-restore; its network namespaces have no names and end with the process.
//
//   kernel-path bridge|router|nodes EXCHANGES      prints `packets 224000` (per second): the median over the batches
//
//   bridge   pod - bridge - pod, without netfilter
//   router   pod - router - pod, through a Service address: DNAT there, un-DNAT back
//   nodes    pod - bridge - node - wire - node - bridge - pod, through a Service address: what Podwire simulates
//
// Unlike a simulator the kernel copies every byte into a packet and out again. Its wire is a veth pair, which takes no
// time and does not queue.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, MESSAGE_BYTES = 512, BUFFER_BYTES = 2048, SERVER_PORT = 8080, SOCKET_BYTES = 8 << 20 };
enum namespace { CLIENT, SERVER, NODE, OTHER_NODE, NAMESPACES };

static int namespaces[NAMESPACES];

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ── network namespaces ──────────────────────────────────────────────────────────────────────────────────────────────

static void enter(enum namespace ns) {
  if (setns(namespaces[ns], CLONE_NEWNET)) die("cannot enter a network namespace: %s", strerror(errno));
}

static void create_namespaces(void) {
  for (int ns = 0; ns < NAMESPACES; ns++) {
    if (unshare(CLONE_NEWNET)) die("cannot make a network namespace: %s", strerror(errno));
    namespaces[ns] = open("/proc/self/ns/net", O_RDONLY); // ip's children inherit it and find it by number
    if (namespaces[ns] < 0) die("/proc/self/ns/net: %s", strerror(errno));
  }
}

// Runs a program in a namespace with this input.
static void feed(enum namespace ns, const char *program, const char *format, ...) {
  va_list arguments;
  enter(ns);
  FILE *pipe = popen(program, "w");
  if (!pipe) die("%s: %s", program, strerror(errno));
  va_start(arguments, format);
  vfprintf(pipe, format, arguments);
  va_end(arguments);
  if (pclose(pipe)) die("%s failed", program);
}

#define ip(ns, ...) feed(ns, "ip -batch -", __VA_ARGS__)

// /proc/sys/net is that of the process's namespace. A sysctl that is not there belongs to a module that is not loaded.
static void set(enum namespace ns, const char *sysctl, int value) {
  char file[128];
  enter(ns);
  snprintf(file, sizeof file, "/proc/sys/net/%s", sysctl);
  FILE *stream = fopen(file, "w");
  if (!stream) return;
  fprintf(stream, "%d", value);
  fclose(stream);
}

static void veth(enum namespace a, const char *device, enum namespace b, const char *peer) {
  ip(a, "link add %s type veth peer name %s netns /proc/%d/fd/%d\nlink set %s up\n", device, peer, getpid(),
     namespaces[b], device);
  ip(b, "link set %s up\n", peer);
}

static void pod(enum namespace pod, enum namespace node, const char *outside, const char *address, const char *gateway) {
  veth(pod, "eth0", node, outside);
  ip(pod, "address add %s/24 dev eth0\nroute add default via %s\n", address, gateway);
}

static void bridge(enum namespace node, const char *address, const char *ports[]) {
  ip(node, "link add cni0 type bridge forward_delay 0\naddress add %s/24 dev cni0\nlink set cni0 up\n", address);
  for (; *ports; ports++) ip(node, "link set %s master cni0\n", *ports);
}

// The rules that kube-proxy has for a Service with one endpoint, and that for packets out of any window.
static void service(enum namespace node, const char *endpoint) {
  feed(node, "iptables-restore",
       "*nat\n"
       ":PREROUTING ACCEPT\n:KUBE-SERVICES -\n:KUBE-SVC-ECHO -\n:KUBE-SEP-ECHO -\n"
       "-A PREROUTING -j KUBE-SERVICES\n"
       "-A KUBE-SERVICES -d 10.96.0.1/32 -p udp -m udp --dport 80 -j KUBE-SVC-ECHO\n"
       "-A KUBE-SVC-ECHO -j KUBE-SEP-ECHO\n"
       "-A KUBE-SEP-ECHO -p udp -m udp -j DNAT --to-destination %s:%d\n"
       "COMMIT\n"
       "*filter\n"
       ":FORWARD ACCEPT\n"
       "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n"
       "COMMIT\n",
       endpoint, SERVER_PORT);
}

// Builds the path and returns the address to ask.
static struct sockaddr_in build(const char *path) {
  struct sockaddr_in asked = {.sin_family = AF_INET, .sin_port = htons(SERVER_PORT)};
  const char *destination = "10.96.0.1";
  create_namespaces();
  for (int ns = 0; ns < NAMESPACES; ns++) {
    set(ns, "ipv6/conf/all/disable_ipv6", 1);
    set(ns, "ipv6/conf/default/disable_ipv6", 1);
    set(ns, "ipv4/ip_forward", ns >= NODE);
  }
  if (!strcmp(path, "bridge")) {
    pod(CLIENT, NODE, "veth1", "10.244.1.2", "10.244.1.1");
    pod(SERVER, NODE, "veth2", "10.244.1.3", "10.244.1.1");
    bridge(NODE, "10.244.1.1", (const char *[]){"veth1", "veth2", NULL});
    set(NODE, "bridge/bridge-nf-call-iptables", 0);
    destination = "10.244.1.3";
  } else if (!strcmp(path, "router")) {
    pod(CLIENT, NODE, "veth1", "10.244.1.2", "10.244.1.1");
    pod(SERVER, NODE, "veth2", "10.244.2.2", "10.244.2.1");
    ip(NODE, "address add 10.244.1.1/24 dev veth1\naddress add 10.244.2.1/24 dev veth2\n");
    service(NODE, "10.244.2.2");
    asked.sin_port = htons(80);
  } else if (!strcmp(path, "nodes")) {
    pod(CLIENT, NODE, "veth1", "10.244.1.2", "10.244.1.1");
    pod(SERVER, OTHER_NODE, "veth1", "10.244.2.2", "10.244.2.1");
    bridge(NODE, "10.244.1.1", (const char *[]){"veth1", NULL});
    bridge(OTHER_NODE, "10.244.2.1", (const char *[]){"veth1", NULL});
    veth(NODE, "eth0", OTHER_NODE, "eth0");
    ip(NODE, "address add 192.168.0.1/24 dev eth0\nroute add 10.244.2.0/24 via 192.168.0.2\n");
    ip(OTHER_NODE, "address add 192.168.0.2/24 dev eth0\nroute add 10.244.1.0/24 via 192.168.0.1\n");
    for (int node = NODE; node <= OTHER_NODE; node++) {
      set(node, "bridge/bridge-nf-call-iptables", 1);
      service(node, "10.244.2.2");
    }
    asked.sin_port = htons(80);
  } else {
    die("path %s: expected bridge, router or nodes", path);
  }
  inet_pton(AF_INET, destination, &asked.sin_addr);
  return asked;
}

// ── batches of messages ─────────────────────────────────────────────────────────────────────────────────────────────

struct batch {
  struct mmsghdr messages[BATCH];
  struct iovec parts[BATCH];
  struct sockaddr_in addresses[BATCH];
  char bytes[BATCH][BUFFER_BYTES];
};

static struct batch requests, responses;

// `has_addresses`: each message has the address of its sender or receiver; else the socket is connected.
static void prepare(struct batch *batch, int has_addresses) {
  for (int i = 0; i < BATCH; i++) {
    batch->parts[i] = (struct iovec){.iov_base = batch->bytes[i], .iov_len = MESSAGE_BYTES};
    batch->messages[i].msg_hdr = (struct msghdr){.msg_iov = &batch->parts[i], .msg_iovlen = 1};
    if (!has_addresses) continue;
    batch->messages[i].msg_hdr.msg_name = &batch->addresses[i];
    batch->messages[i].msg_hdr.msg_namelen = sizeof batch->addresses[i];
  }
}

static int udp_socket(enum namespace ns) {
  int size = SOCKET_BYTES;
  enter(ns);
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) die("socket: %s", strerror(errno));
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  return fd;
}

// Returns how many of `count` requests were answered.
static int exchange(int client, int server, int count) {
  if (sendmmsg(client, requests.messages, count, 0) < 0) return 0;
  int arrived = recvmmsg(server, responses.messages, count, MSG_DONTWAIT, NULL);
  if (arrived <= 0) return 0;
  int sent = sendmmsg(server, responses.messages, arrived, 0);
  if (sent <= 0) return 0;
  int answered = recvmmsg(client, requests.messages, sent, MSG_DONTWAIT, NULL);
  return answered < 0 ? 0 : answered;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: kernel-path bridge|router|nodes EXCHANGES\n");
    return 2;
  }
  struct sockaddr_in asked = build(argv[1]);
  struct sockaddr_in bound = {.sin_family = AF_INET, .sin_port = htons(SERVER_PORT)};
  int server = udp_socket(SERVER), client = udp_socket(CLIENT);
  if (bind(server, (struct sockaddr *)&bound, sizeof bound)) die("bind: %s", strerror(errno));
  if (connect(client, (struct sockaddr *)&asked, sizeof asked)) die("connect: %s", strerror(errno));
  prepare(&requests, 0);
  prepare(&responses, 1);

  // Bridge ports forward only when the kernel's link watch has seen them up; ARP is resolved then, too.
  int patience = 500;
  while (exchange(client, server, 1) == 0 && --patience > 0) usleep(10000);
  if (patience == 0) die("no packet gets through the path %s", argv[1]);
  while (recv(client, requests.bytes[0], BUFFER_BYTES, MSG_DONTWAIT) > 0 ||
         recv(server, requests.bytes[0], BUFFER_BYTES, MSG_DONTWAIT) > 0) {}

  int batches = (atoi(argv[2]) + BATCH - 1) / BATCH, complete = 0;
  int64_t *samples = malloc(batches * sizeof *samples);
  if (!samples) die("out of memory");
  for (int i = -batches / 5; i < batches; i++) { // the first fifth warms up
    int64_t before = now();
    int answered = exchange(client, server, BATCH);
    int64_t after = now();
    if (i >= 0 && answered == BATCH) samples[complete++] = after - before;
  }
  if (complete < batches * 0.9) die("packets were lost in %d of %d batches", batches - complete, batches);
  qsort(samples, complete, sizeof *samples, compare);
  printf("packets %.0f\n", 2.0 * BATCH * 1e9 / samples[complete / 2]);
  return 0;
}

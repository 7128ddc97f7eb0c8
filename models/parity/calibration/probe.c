// Sends packets over paths of network namespaces and says how long they took. One process for all paths: a path's
// sockets are opened once, and rounds over all paths follow without the cost of starting a program.
//
// The kernel carries what a socket sends through veth, bridge, netfilter and routing to the last queue before the system
// call returns, on the sender's CPU. So the time of the call is the cost of the whole path.
//
// Reads one command per line, answers each with one line: `ok`, figures in nanoseconds, or `error: ...`.
//
//   open NAME frames NS DEVICE key=value...      raw Ethernet frames out of DEVICE
//   open NAME datagrams NS PEER key=value...     UDP socket to UDP socket
//   open NAME roundtrips NS PEER key=value...    and back again
//   open NAME requests NS PEER key=value...      likewise, a new client socket each time
//   open NAME connects NS PEER key=value...      TCP connections, reset after each
//   open NAME exchanges NS PEER key=value...     a byte and back again on one TCP connection
//   open NAME idle NS - lport=PORT               a UDP socket that nobody reads
//   run NAME COUNT
//
// With flush=NAMESPACE, conntrack forgets all connections of that namespace after each run: its hash is one for all
// namespaces, and new flows would find longer and longer chains there.
//
// A run answers with the mean of the middle half of its COUNT times, and for round trips, requests, connects and exchanges
// with their median, too; for datagrams with two means, for sending and receiving.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PATHS = 256, FRAME_BYTES = 2048, ETHERNET = 14, FLOWS_PER_ADDRESS = 60000, MOST_LOST = 5 };
#define PATIENCE {.tv_usec = 200000}
enum kind { FRAMES, DATAGRAMS, ROUND_TRIPS, REQUESTS, CONNECTS, EXCHANGES, IDLE, KINDS };

struct path {
  char name[64];
  enum kind kind;
  char ns[64], peer[64], device[16], flush[64];
  unsigned char destination_mac[6];
  struct in_addr source, destination;
  int source_port, destination_port, listen_port, protocol, size, flows;
  int sender, receiver, conntrack;
  unsigned next_flow;
  unsigned next_port;
};

static struct path paths[MAX_PATHS];
static int path_count;
static char failure[256];

static int fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(failure, sizeof failure, format, arguments);
  va_end(arguments);
  return -1;
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

// The mean of the middle half: as steady as the median, and finer than the clock's resolution.
static double middle_mean(int64_t *samples, int count) {
  int first = count / 4, end = count - count / 4;
  int64_t sum = 0;
  qsort(samples, count, sizeof *samples, compare);
  for (int i = first; i < end; i++) sum += samples[i];
  return (double)sum / (end - first);
}

static int enter(const char *ns) {
  char file[128];
  snprintf(file, sizeof file, "/var/run/netns/%s", ns);
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET)) {
    if (fd >= 0) close(fd);
    return fail("cannot enter network namespace %s: %s", ns, strerror(errno));
  }
  close(fd);
  return 0;
}

// conntrack -F, by netlink. Nothing happens where conntrack is not loaded.
static int open_conntrack(struct path *path) {
  if (enter(path->flush)) return -1;
  path->conntrack = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  return path->conntrack < 0 ? fail("netlink: %s", strerror(errno)) : 0;
}

static void flush_conntrack(int conntrack) {
  struct {
    struct nlmsghdr header;
    struct nfgenmsg message;
  } request = {
      .header = {.nlmsg_len = sizeof request,
                 .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
      .message = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0},
  };
  char answer[1024];
  if (send(conntrack, &request, sizeof request, 0) > 0) recv(conntrack, answer, sizeof answer, 0);
}

static int answer_times(int64_t *samples, int count) {
  double mean = middle_mean(samples, count); // sorts
  printf("%.1f %lld\n", mean, (long long)samples[count / 2]);
  free(samples);
  return 0;
}

// ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────

static void put16(unsigned char *at, unsigned value) {
  at[0] = value >> 8;
  at[1] = value;
}

static void put_ip_checksum(unsigned char *header) {
  unsigned sum = 0;
  put16(header + 10, 0);
  for (int i = 0; i < 20; i += 2) sum += (header[i] << 8) | header[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  put16(header + 10, ~sum);
}

static void build_frame(const struct path *path, unsigned char *frame) {
  static const unsigned char source_mac[6] = {2, 0, 0, 0, 0, 1};
  unsigned char *ip = frame + ETHERNET, *transport = ip + 20;
  int bytes = path->size - ETHERNET;
  memset(frame, 0, path->size);
  memcpy(frame, path->destination_mac, 6);
  memcpy(frame + 6, source_mac, 6);
  put16(frame + 12, 0x0800);
  ip[0] = 0x45;
  put16(ip + 2, bytes);
  ip[8] = 64;
  ip[9] = path->protocol;
  memcpy(ip + 12, &path->source, 4);
  memcpy(ip + 16, &path->destination, 4);
  put_ip_checksum(ip);
  put16(transport, path->source_port);
  put16(transport + 2, path->destination_port);
  if (path->protocol == IPPROTO_UDP) put16(transport + 4, bytes - 20);
}

// Another source port for each flow, then another source address.
static void put_flow(const struct path *path, unsigned char *frame, unsigned flow) {
  unsigned char *ip = frame + ETHERNET;
  uint32_t source = htonl(ntohl(path->source.s_addr) + flow / FLOWS_PER_ADDRESS);
  memcpy(ip + 12, &source, 4);
  put16(ip + 20, 1024 + flow % FLOWS_PER_ADDRESS);
  put_ip_checksum(ip);
}

static int open_frames(struct path *path) {
  if (enter(path->ns)) return -1;
  path->sender = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (path->sender < 0) return fail("packet socket: %s", strerror(errno));
  int one = 1, buffer = 8 << 20;
  setsockopt(path->sender, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  setsockopt(path->sender, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(path->device)};
  if (address.sll_ifindex == 0) return fail("no device %s in %s", path->device, path->ns);
  if (bind(path->sender, (struct sockaddr *)&address, sizeof address)) return fail("bind: %s", strerror(errno));
  return 0;
}

static int run_frames(struct path *path, int count) {
  unsigned char frame[FRAME_BYTES];
  int64_t *samples = calloc(count, sizeof *samples);
  build_frame(path, frame);
  for (int i = 0; i < count; i++) {
    if (path->flows > 0) put_flow(path, frame, path->next_flow++ % path->flows);
    int64_t began = now();
    // ENOBUFS: something on the path dropped the frame, which is where some paths are to end.
    if (send(path->sender, frame, path->size, 0) < 0 && errno != ENOBUFS) return fail("send: %s", strerror(errno));
    samples[i] = now() - began;
  }
  printf("%.1f\n", middle_mean(samples, count));
  free(samples);
  return 0;
}

// ── sockets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

static struct sockaddr_in address(struct in_addr ip, int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = ip, .sin_port = htons(port)};
}

static int bound(const char *ns, int type, int port) {
  if (enter(ns)) return -1;
  int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in own = address((struct in_addr){INADDR_ANY}, port);
  if (fd < 0) return fail("socket: %s", strerror(errno));
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&own, sizeof own)) return fail("bind to port %d: %s", port, strerror(errno));
  return fd;
}

static int open_datagrams(struct path *path) {
  struct timeval patience = PATIENCE;
  struct sockaddr_in to = address(path->destination, path->destination_port);
  if ((path->receiver = bound(path->peer, SOCK_DGRAM, path->listen_port)) < 0) return -1;
  if ((path->sender = bound(path->ns, SOCK_DGRAM, path->source_port)) < 0) return -1;
  setsockopt(path->sender, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(path->receiver, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(path->sender, (struct sockaddr *)&to, sizeof to)) return fail("connect: %s", strerror(errno));
  return 0;
}

static int run_datagrams(struct path *path, int count) {
  char buffer[FRAME_BYTES] = {0};
  int64_t *sending = calloc(count, sizeof *sending), *receiving = calloc(count, sizeof *receiving);
  for (int i = 0, lost = 0; i < count;) {
    int64_t began = now();
    if (send(path->sender, buffer, path->size, 0) < 0) return fail("send: %s", strerror(errno));
    int64_t sent = now();
    if (recv(path->receiver, buffer, sizeof buffer, 0) < 0) {
      if (++lost > MOST_LOST) return fail("nothing received: %s", strerror(errno));
      continue;
    }
    sending[i] = sent - began;
    receiving[i++] = now() - sent;
  }
  printf("%.1f %.1f\n", middle_mean(sending, count), middle_mean(receiving, count));
  free(sending);
  free(receiving);
  return 0;
}

// A datagram there and back, from `client`; its time in nanoseconds, or -1 if something was lost.
static int64_t round_trip(const struct path *path, int client) {
  char buffer[FRAME_BYTES] = {0};
  struct sockaddr_in from;
  socklen_t length = sizeof from;
  int64_t began = now();
  if (send(client, buffer, path->size, 0) < 0 ||
      recvfrom(path->receiver, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length) < 0 ||
      sendto(path->receiver, buffer, path->size, 0, (struct sockaddr *)&from, length) < 0 ||
      recv(client, buffer, sizeof buffer, 0) < 0)
    return -1;
  return now() - began;
}

static int run_round_trips(struct path *path, int count) {
  int64_t *samples = calloc(count, sizeof *samples);
  for (int i = 0, lost = 0; i < count;) {
    int64_t took = round_trip(path, path->sender);
    if (took >= 0) samples[i++] = took;
    else if (++lost > MOST_LOST) return fail("no answer: %s", strerror(errno));
  }
  return answer_times(samples, count);
}

static int run_requests(struct path *path, int count) {
  struct timeval patience = PATIENCE;
  struct sockaddr_in to = address(path->destination, path->destination_port);
  int64_t *samples = calloc(count, sizeof *samples);
  if (enter(path->ns)) return -1;
  for (int i = 0, lost = 0; i < count;) {
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(client, (struct sockaddr *)&to, sizeof to)) return fail("connect: %s", strerror(errno));
    int64_t took = round_trip(path, client);
    close(client);
    if (took >= 0) samples[i++] = took;
    else if (++lost > MOST_LOST) return fail("no answer: %s", strerror(errno));
  }
  return answer_times(samples, count);
}

static int open_connects(struct path *path) {
  path->receiver = bound(path->peer, SOCK_STREAM, path->listen_port);
  if (path->receiver < 0) return -1;
  if (listen(path->receiver, 1024)) return fail("listen: %s", strerror(errno));
  return 0;
}

static int open_exchanges(struct path *path) {
  struct sockaddr_in to = address(path->destination, path->destination_port);
  int one = 1, listener = bound(path->peer, SOCK_STREAM, path->listen_port);
  if (listener < 0) return -1;
  if (listen(listener, 1)) return fail("listen: %s", strerror(errno));
  if ((path->sender = bound(path->ns, SOCK_STREAM, path->source_port)) < 0) return -1;
  if (connect(path->sender, (struct sockaddr *)&to, sizeof to)) return fail("connect: %s", strerror(errno));
  path->receiver = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  close(listener);
  if (path->receiver < 0) return fail("accept: %s", strerror(errno));
  setsockopt(path->sender, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(path->receiver, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return 0;
}

static int run_exchanges(struct path *path, int count) {
  char byte = 0;
  int64_t *samples = calloc(count, sizeof *samples);
  for (int i = 0; i < count; i++) {
    int64_t began = now();
    if (send(path->sender, &byte, 1, 0) != 1 || recv(path->receiver, &byte, 1, 0) != 1 ||
        send(path->receiver, &byte, 1, 0) != 1 || recv(path->sender, &byte, 1, 0) != 1)
      return fail("exchange: %s", strerror(errno));
    samples[i] = now() - began;
  }
  return answer_times(samples, count);
}

// With the smallest receive buffer there is: full after a datagram or two.
static int open_idle(struct path *path) {
  int smallest = 0;
  if ((path->receiver = bound(path->ns, SOCK_DGRAM, path->listen_port)) < 0) return -1;
  setsockopt(path->receiver, SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest);
  return 0;
}

static int run_connects(struct path *path, int count) {
  enum { FIRST_PORT = 20000, PORTS = 40000 };
  struct sockaddr_in to = address(path->destination, path->destination_port);
  struct linger reset = {.l_onoff = 1};
  int64_t *samples = calloc(count, sizeof *samples);
  if (enter(path->ns)) return -1;
  for (int i = 0; i < count; i++) {
    struct sockaddr_in own = address(path->source, FIRST_PORT + path->next_port++ % PORTS);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(client, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (bind(client, (struct sockaddr *)&own, sizeof own)) return fail("bind: %s", strerror(errno));
    int64_t began = now();
    if (connect(client, (struct sockaddr *)&to, sizeof to)) return fail("connect: %s", strerror(errno));
    samples[i] = now() - began;
    int server = accept4(path->receiver, NULL, NULL, SOCK_CLOEXEC);
    if (server < 0) return fail("accept: %s", strerror(errno));
    close(client);
    close(server);
  }
  return answer_times(samples, count);
}

// ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

static int read_option(struct path *path, const char *option) {
  const char *value = strchr(option, '=');
  if (value == NULL) return fail("option %s without a value", option);
  size_t length = value++ - option;
  const struct { const char *name; int *number; } numbers[] = {
      {"sport", &path->source_port}, {"dport", &path->destination_port}, {"lport", &path->listen_port},
      {"proto", &path->protocol},    {"size", &path->size},              {"flows", &path->flows},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    if (strlen(numbers[i].name) != length || strncmp(option, numbers[i].name, length) != 0) continue;
    *numbers[i].number = atoi(value);
    return 0;
  }
  if (strncmp(option, "flush=", 6) == 0) {
    snprintf(path->flush, sizeof path->flush, "%s", value);
    return open_conntrack(path);
  }
  if (strncmp(option, "src=", 4) == 0)
    return inet_pton(AF_INET, value, &path->source) == 1 ? 0 : fail("bad src %s", value);
  if (strncmp(option, "dst=", 4) == 0)
    return inet_pton(AF_INET, value, &path->destination) == 1 ? 0 : fail("bad dst %s", value);
  unsigned char *m = path->destination_mac;
  if (strncmp(option, "dmac=", 5) == 0)
    return sscanf(value, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) == 6
               ? 0
               : fail("bad dmac %s", value);
  return fail("unknown option %s", option);
}

static int open_path(char *arguments) {
  static const char *const kinds[] = {"frames", "datagrams", "roundtrips", "requests", "connects", "exchanges", "idle"};
  char kind[16], peer[64];
  int read = 0;
  if (path_count == MAX_PATHS) return fail("more than %d paths", MAX_PATHS);
  struct path *path = &paths[path_count];
  *path = (struct path){.protocol = IPPROTO_UDP, .size = 60, .sender = -1, .receiver = -1, .conntrack = -1};
  if (sscanf(arguments, "%63s %15s %63s %63s%n", path->name, kind, path->ns, peer, &read) != 4)
    return fail("open: %s", arguments);
  snprintf(path->peer, sizeof path->peer, "%s", peer);
  snprintf(path->device, sizeof path->device, "%.15s", peer);
  for (char *option = strtok(arguments + read, " "); option != NULL; option = strtok(NULL, " "))
    if (read_option(path, option)) return -1;
  if (path->size < 0 || path->size > FRAME_BYTES) return fail("size %d", path->size);
  for (path->kind = FRAMES; path->kind < KINDS; path->kind++)
    if (strcmp(kind, kinds[path->kind]) == 0) break;
  int failed = -1;
  switch (path->kind) {
    case FRAMES: failed = open_frames(path); break;
    case DATAGRAMS:
    case ROUND_TRIPS:
    case REQUESTS: failed = open_datagrams(path); break;
    case CONNECTS: failed = open_connects(path); break;
    case EXCHANGES: failed = open_exchanges(path); break;
    case IDLE: failed = open_idle(path); break;
    default: return fail("unknown kind %s", kind);
  }
  if (failed) return -1;
  path_count++;
  puts("ok");
  return 0;
}

static int run_kind(struct path *path, int count) {
  switch (path->kind) {
    case FRAMES: return run_frames(path, count);
    case DATAGRAMS: return run_datagrams(path, count);
    case ROUND_TRIPS: return run_round_trips(path, count);
    case REQUESTS: return run_requests(path, count);
    case CONNECTS: return run_connects(path, count);
    case EXCHANGES: return run_exchanges(path, count);
    default: return fail("%s is idle", path->name);
  }
}

static int run_path(const char *arguments) {
  char name[64];
  int count;
  if (sscanf(arguments, "%63s %d", name, &count) != 2 || count < 1) return fail("run: %s", arguments);
  for (int i = 0; i < path_count; i++) {
    if (strcmp(paths[i].name, name) != 0) continue;
    int failed = run_kind(&paths[i], count);
    if (paths[i].conntrack >= 0) flush_conntrack(paths[i].conntrack);
    return failed;
  }
  return fail("no path %s", name);
}

static int obey(char *line) {
  line[strcspn(line, "\n")] = 0;
  if (strncmp(line, "open ", 5) == 0) return open_path(line + 5);
  if (strncmp(line, "run ", 4) == 0) return run_path(line + 4);
  return fail("unknown command %s", line);
}

// The argument is the CPU to run on.
int main(int argc, char **argv) {
  char line[1024];
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (argc > 1) CPU_SET(atoi(argv[1]), &cpus);
  if (argc > 1 && sched_setaffinity(0, sizeof cpus, &cpus)) perror("sched_setaffinity");
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (obey(line)) printf("error: %s\n", failure);
    fflush(stdout);
  }
  return 0;
}

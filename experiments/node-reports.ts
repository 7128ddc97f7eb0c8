// What fills conntrack tables without anybody's doing wrong: pods that report to an agent on their node (StatsD, syslog) by
// datagrams from a new socket each time. Nobody answers, and each datagram leaves an entry behind for half a minute.

import type { RunningPod } from '../models/kube/kubelet.ts';
import { type Cluster, type Duration, us } from './podwire.ts';

/** A datagram each: longer than it takes to get there, so that none waits. */
const PAUSE = us(10);
const AGENT_PORT = 8125;
const REPORT = { sizeBytes: 100, id: 0 };
const IGNORE = { onDatagram: () => {} };

/**
 * Each of the pods sends so many reports, one pod after the other: what simulates them finds in its caches what the datagram
 * before has used. Returns how long that is going to last.
 */
export function reportToNodes(
  cluster: Cluster,
  { pods, reports }: { readonly pods: readonly RunningPod[]; readonly reports: number },
): Duration {
  for (const { process } of new Set(pods.map(({ node }) => cluster.node(node))))
    process.namespace.udp.bind({ port: AGENT_PORT, cpu: process.cpu }, IGNORE);
  for (const [i, pod] of pods.entries()) {
    const { family, ip } = cluster.node(pod.node).addresses[0]!;
    const to = { family, ip, port: AGENT_PORT };
    const report = (left: number): void => {
      if (left === 0) return;
      const socket = pod.namespace.udp.bind({ family, cpu: pod.cpu }, IGNORE);
      socket.send(to, REPORT);
      socket.close();
      pod.place.schedule(PAUSE, report, left - 1);
    };
    pod.place.schedule((i * reports * PAUSE) as Duration, report, reports);
  }
  return ((pods.length * reports + 1) * PAUSE) as Duration;
}

// Packets of a simulated cluster against packets of the real kernel on the same core.

import { messageOf } from '../../experiments/harness/user-error.ts';
import { isInstalled } from '../../models/parity/calibration/machine-commands.ts';
import type { Comparison, Subject } from './comparison.ts';
import { compilerMissingFor, type Workbench } from './workbench.ts';

/** Ways through the kernel. The first two are those of packets of one node, and of several; the third is shorter than either. */
const ROUTER = { path: 'router', name: 'kernel, router + DNAT' };
const TWO_NODES = { path: 'nodes', name: 'kernel, two nodes + DNAT' };
const BRIDGE = { path: 'bridge', name: 'kernel, bridge' };

export async function kernelSubject(workbench: Workbench): Promise<Subject> {
  const { clusters, packets } = workbench.sizes;
  const { nodes: several, podsPerNode } = clusters[0]!;
  const program = await programOf(workbench);
  const between = (nodes: number, { path, name }: typeof ROUTER): Comparison => ({
    case: `${nodes} ${nodes === 1 ? 'node' : 'nodes'} x ${podsPerNode} pods`,
    unit: 'packets/s',
    figure: 'packets',
    podwire: workbench.podwire('Podwire', ['echo', nodes, podsPerNode, packets, 'udp', nodes]),
    peer:
      typeof program === 'string'
        ? { name, measure: () => workbench.figures(program, [path, packets / 2]) }
        : { name, ...program },
  });
  const comparisons = [
    { ...between(1, ROUTER), atLeast: 3 },
    between(several, TWO_NODES),
    between(1, BRIDGE),
    between(several, ROUTER),
  ];
  const remarks = [
    'Kernel: real packets of 512 bytes, copied in and out by 4 system calls per 64 requests and their responses, one' +
      ' connection, no wire. Its router, and its two nodes, are the way of a packet between the pods of one node, and of' +
      ' several; "bridge" is a shorter one, without Service, routing and netfilter.',
  ];
  return { comparisons, remarks };
}

/** The compiled program, or what is missing. */
async function programOf(workbench: Workbench): Promise<string | { readonly missing: string }> {
  const missing = kernelMissing();
  if (missing !== undefined) return { missing };
  try {
    const program = await workbench.compile('kernel-path.c');
    await workbench.figures(program, ['router', 1]);
    return program;
  } catch (error) {
    return { missing: messageOf(error) };
  }
}

function kernelMissing(): string | undefined {
  if (process.platform !== 'linux') return 'this machine does not run Linux';
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces: sudo npm run bench:peers';
  for (const [tool, debianPackage] of [
    ['ip', 'iproute2'],
    ['iptables-restore', 'iptables'],
  ] as const) {
    if (!isInstalled(tool)) return `no ${tool}: apt-get install -y ${debianPackage}`;
  }
  return compilerMissingFor('kernel-path.c');
}

// Packets of a simulated cluster against packets of the real kernel on the same core.

import { messageOf } from '../../experiments/harness/user-error.ts';
import { isInstalled } from '../../models/parity/calibration/machine-commands.ts';
import type { Comparison, Contender, Missing, Subject } from './comparison.ts';
import { compilerMissingFor, type Workbench } from './workbench.ts';

const PATHS: readonly { readonly path: string; readonly name: string; readonly atLeast?: number }[] = [
  { path: 'router', name: 'kernel, router + DNAT', atLeast: 3 },
  { path: 'nodes', name: 'kernel, two nodes + DNAT' },
  { path: 'bridge', name: 'kernel, bridge' },
];

export async function kernelSubject(workbench: Workbench): Promise<Subject> {
  const { clusters, packets } = workbench.sizes;
  const { nodes, podsPerNode } = clusters[0]!;
  const podwire = workbench.podwire('Podwire', ['echo', nodes, podsPerNode, packets, 'udp', nodes]);
  const program = await programOf(workbench);
  const comparisons = PATHS.map(({ path, name, ...target }): Comparison => {
    const peer: Contender | Missing =
      typeof program === 'string'
        ? { name, measure: () => workbench.figures(program, [path, packets / 2]) }
        : { name, ...program };
    const conditions = `${nodes} nodes x ${podsPerNode} pods`;
    return { case: conditions, unit: 'packets/s', figure: 'packets', podwire, peer, ...target };
  });
  const remarks = [
    'Kernel: real packets of 512 bytes, copied in and out by 4 system calls per 64 requests and their responses, one' +
      ' connection, no wire. "router" and "bridge" are shorter ways than a packet of Podwire goes, "two nodes" is the same.',
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

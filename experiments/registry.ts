// The experiments that `podwire run` knows by name: one line each.

import type { Command, CommandContext } from './cli/command-line.ts';
import { SCALE } from './cli/run-scale.ts';
import { SERVICES } from './cli/run-services.ts';
import { type Experiment, isExperiment } from './harness/experiment.ts';

export type RegisteredExperiment = FileExperiment | CommandExperiment;

/** Made with `experiment()`: the default export of a file beside this one. */
export interface FileExperiment {
  readonly name: string;
  readonly module: URL;
}

/** Has options of its own: a command below `podwire run`. */
export interface CommandExperiment {
  readonly name: string;
  readonly question: string;
  addTo(run: Command, context: CommandContext): void;
}

export const REGISTRY: readonly RegisteredExperiment[] = [
  SERVICES,
  inFile('service-count'),
  inFile('load-distribution'),
  inFile('endpoint-split'),
  inFile('first-server-bias'),
  inFile('bridge-netfilter-off'),
  inFile('overlapping-ranges'),
  inFile('pod-ip-reuse'),
  inFile('port-allocation'),
  inFile('vxlan-mtu'),
  inFile('programming-latency'),
  inFile('programming-at-5000-nodes'),
  inFile('conntrack-full'),
  inFile('external-traffic-policy'),
  inFile('first-packet'),
  inFile('hairpin'),
  inFile('ingress-pools'),
  inFile('invalid-segments'),
  inFile('keepalive-immunity'),
  inFile('masquerade'),
  inFile('policy-window'),
  inFile('rolling-update'),
  inFile('session-affinity'),
  inFile('snat-ports'),
  inFile('source-ip'),
  inFile('stale-udp'),
  inFile('terminating-endpoints'),
  inFile('topology-hints'),
  inFile('ndots-amplification'),
  inFile('dns-race'),
  inFile('coredns-overload'),
  SCALE,
];

/** The experiment in `<name>.ts`, or in `<name>.js` once compiled. */
export function inFile(name: string): FileExperiment {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  return { name, module: new URL(`./${name}${extension}`, import.meta.url) };
}

export async function loadRegistered({ name, module }: FileExperiment): Promise<Experiment> {
  const { default: experiment } = (await import(module.href)) as { default?: unknown };
  if (!isExperiment(experiment)) throw new Error(`${module}: the default export is not an experiment`);
  if (experiment.name !== name) throw new Error(`${module}: the experiment is named "${experiment.name}"`);
  return experiment;
}

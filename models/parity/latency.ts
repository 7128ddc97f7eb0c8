// How long what packets meet takes them: the same conversations in the kernel of this machine and in the simulator, which
// runs at costs measured in the same rounds. What is compared here is not what costs were derived from.
//
//   TCP   connect() to the last of n services, on a node that routes between its pods
//   UDP   round trips between pods of one node, through a service, and across nodes

import { type CostFile, costModelOf } from '../cpu/cost-file.ts';
import type { CostModel } from '../cpu/cost-model.ts';
import { type CalibrationOptions, costFileOf, measure } from './calibration/calibrate.ts';
import type { Lab } from './calibration/lab.ts';
import { NotMeasured } from './calibration/measurement.ts';
import { kubeProxyIptables, kubeProxyNft, type ServiceRules, serviceIp } from './calibration/rulesets.ts';
import type { MeasuredPath, Site } from './calibration/sites.ts';
import { type Between, bridged, CLIENT_IP, crossing, routed, SERVER_IP } from './calibration/topologies.ts';
import type { NodeRules, RuleBackend, Topology } from './case.ts';
import { CaseError } from './case-error.ts';
import { type Conversation, simulateLatency } from './latency-simulation.ts';

export interface LatencyRow {
  readonly scenario: string;
  /** Medians. */
  readonly kernelUs: number;
  readonly simulatorUs: number;
  /** Simulator to kernel. */
  readonly ratio: number;
  /** How far the kernel's rounds differ: distance of the quartiles, as a fraction of the median. */
  readonly noiseFraction: number;
}

/** A scenario that one of the sides cannot do here. */
export interface NotCompared {
  readonly scenario: string;
  readonly reason: string;
}

export interface LatencyParity {
  readonly rows: readonly LatencyRow[];
  readonly notCompared: readonly NotCompared[];
  /** What the simulator was run with. */
  readonly costs: CostFile;
  /** Of the noisiest conversation: distance of the quartiles over the rounds, as a fraction of the median. */
  readonly noiseFraction: number;
  /** Whether all rows are within {@link TOLERANCE}. */
  readonly agrees: boolean;
}

/** Ratios from 0.85 to 1.15. */
export const TOLERANCE = 0.15;

/** Throws a NotPossible or a NoisyMachine. */
export async function latencyParity(options: CalibrationOptions): Promise<LatencyParity> {
  const { quick = false } = options;
  const scenarios = scenariosOf(quick ? [1, 1_000, 10_000] : [1, 100, 1_000, 5_000, 10_000]);
  const measurement = await measure(options, scenarios.map(siteOf));
  // Medians everywhere: what disturbs the machine meets costs and conversations alike.
  const costs = costFileOf(measurement, { quick, statistic: 'median' });
  const model = costModelOf(costs);
  const rows: LatencyRow[] = [];
  const notCompared: NotCompared[] = [];
  for (const scenario of scenarios) {
    try {
      const path = `${scenario.name}.median`;
      const kernelUs = measurement.time(path, 'median') / 1e3;
      const simulatorUs = simulate(scenario, model) / 1e3;
      const noiseFraction = measurement.noiseFraction(path);
      rows.push({ scenario: scenario.title, kernelUs, simulatorUs, ratio: simulatorUs / kernelUs, noiseFraction });
    } catch (error) {
      if (!(error instanceof NotMeasured || error instanceof CaseError)) throw error;
      notCompared.push({ scenario: scenario.title, reason: error.message });
    }
  }
  const agrees = rows.length > 0 && rows.every(isWithinTolerance);
  return { rows, notCompared, costs, noiseFraction: Math.max(...rows.map((row) => row.noiseFraction)), agrees };
}

export const isWithinTolerance = ({ ratio }: LatencyRow): boolean => Math.abs(ratio - 1) <= TOLERANCE;

// ── what is compared ─────────────────────────────────────────────────────────────────────────────────────────────────

interface Scenario {
  /** Of the path. */
  readonly name: string;
  readonly title: string;
  readonly protocol: 'tcp' | 'udp';
  readonly network: 'routed' | 'bridged' | 'crossing';
  /** The service to ask, and the rules that lead to it; the server itself if absent. */
  readonly services?: { readonly count: number; readonly backend: RuleBackend };
}

const BACKEND_TITLES: Readonly<Record<RuleBackend, string>> = {
  legacy: 'iptables-legacy',
  nft: 'iptables-nft',
  nftnative: 'nft maps',
};

function scenariosOf(serviceCounts: readonly number[]): Scenario[] {
  const connects = (['legacy', 'nft', 'nftnative'] as const).flatMap((backend) =>
    serviceCounts.map(
      (count): Scenario => ({
        name: `latency.${backend}.${count}`,
        title: `TCP connect(), ${BACKEND_TITLES[backend]}, ${count === 1 ? '1 service' : `${count.toLocaleString('en-US')} services`}`,
        ...{ protocol: 'tcp', network: 'routed', services: { count, backend } },
      }),
    ),
  );
  const one = { count: 1, backend: 'legacy' } as const;
  return [
    ...connects,
    { name: 'latency.pod', title: 'UDP, pod to pod, one node', protocol: 'udp', network: 'bridged' },
    { name: 'latency.dnat', title: 'UDP, through DNAT, one node', protocol: 'udp', network: 'bridged', services: one },
    {
      name: 'latency.routed',
      title: 'UDP, through DNAT, routed pods',
      protocol: 'udp',
      network: 'routed',
      services: one,
    },
    { name: 'latency.nodes', title: 'UDP, pod to pod, across nodes', protocol: 'udp', network: 'crossing' },
  ];
}

const SERVER_PORT = 9_000;

/** The rules with this endpoint behind all services. */
function rulesOf({ services, protocol }: Scenario, endpointIp: string): NodeRules | undefined {
  if (services === undefined) return undefined;
  const rules: ServiceRules = { services: services.count, protocol, endpoint: `${endpointIp}:${SERVER_PORT}` };
  const { backend } = services;
  return { backend, text: backend === 'nftnative' ? kubeProxyNft(rules) : kubeProxyIptables(rules) };
}

/** Where the client sends to: the last service, if there are any. */
const targetOf = ({ services }: Scenario, serverIp: string) =>
  services === undefined ? { ip: serverIp, port: SERVER_PORT } : { ip: serviceIp(services.count), port: 80 };

// ── in the kernel ────────────────────────────────────────────────────────────────────────────────────────────────────

const RESTORE: Readonly<Record<RuleBackend, readonly [command: string, ...args: string[]]>> = {
  legacy: ['iptables-legacy-restore'],
  nft: ['iptables-nft-restore'],
  nftnative: ['nft', '-f', '-'],
};

function siteOf(scenario: Scenario): Site {
  const { name, services } = scenario;
  return {
    name,
    needs: services === undefined ? [] : [RESTORE[services.backend][0]],
    async build(lab) {
      const { client, server, node } = await build(scenario, lab);
      const rules = rulesOf(scenario, SERVER_IP);
      if (rules !== undefined && node !== undefined) {
        const [command, ...args] = RESTORE[rules.backend];
        await lab.run(node, command, args, rules.text);
      }
      return [pathOf(scenario, { client, server, node })];
    },
  };
}

async function build({ network }: Scenario, lab: Lab): Promise<Between & { readonly node: string | undefined }> {
  switch (network) {
    case 'routed':
      return routed(lab);
    case 'bridged':
      return bridged(lab, { callIptables: true });
    case 'crossing':
      return { ...(await crossing(lab)), node: undefined };
  }
}

function pathOf(
  scenario: Scenario,
  { client, server, node }: Between & { readonly node: string | undefined },
): MeasuredPath {
  const { ip, port } = targetOf(scenario, SERVER_IP);
  const flush = scenario.services === undefined || node === undefined ? {} : { flush: node };
  const options = { src: CLIENT_IP, dst: ip, dport: port, lport: SERVER_PORT, size: 18, ...flush };
  const ends = { name: scenario.name, namespace: client, peer: server, options };
  return scenario.protocol === 'tcp'
    ? { ...ends, kind: 'connects', count: 200 }
    : { ...ends, kind: 'roundtrips', count: 2_000 };
}

// ── in the simulator ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Median, in nanoseconds. */
function simulate(scenario: Scenario, costs: CostModel): number {
  const topology = TOPOLOGIES[scenario.network];
  const serverIp = topology.nodes.at(-1)?.pods.at(-1)?.ip ?? '';
  const rules = rulesOf(scenario, serverIp);
  const conversation: Conversation = {
    topology,
    costs,
    ...(rules && { rules }),
    ...{ protocol: scenario.protocol, to: targetOf(scenario, serverIp), serverPort: SERVER_PORT },
  };
  return simulateLatency(conversation);
}

const pod = (name: string, ip: string) => ({ name, ip, stack: true });
const TOPOLOGIES: Readonly<Record<Scenario['network'], Topology>> = {
  routed: {
    nodes: [
      {
        ...{ name: 'n1', podCIDR: '10.244.0.0/24', bridge: false },
        pods: [pod('client', '10.244.0.2'), pod('server', '10.244.0.3')],
      },
    ],
  },
  bridged: {
    nodes: [{ name: 'n1', podCIDR: '10.244.0.0/24', pods: [pod('client', '10.244.0.2'), pod('server', '10.244.0.3')] }],
  },
  crossing: {
    nodes: [
      { name: 'n1', ip: '192.168.0.1', podCIDR: '10.244.0.0/24', pods: [pod('client', '10.244.0.2')] },
      { name: 'n2', ip: '192.168.0.2', podCIDR: '10.244.1.0/24', pods: [pod('server', '10.244.1.2')] },
    ],
  },
};

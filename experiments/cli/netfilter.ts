// podwire netfilter: where a packet goes by the rules of a real node, and how likely.

import { readFileSync } from 'node:fs';
import { CT_ESTABLISHED, CT_INVALID, CT_RELATED, CT_UNTRACKED } from '../../models/netfilter/conntrack-state.ts';
import { explorePacket, type PacketOutcome } from '../../models/netfilter/explore/explore.ts';
import { fillFromText } from '../../models/netfilter/explore/packet-text.ts';
import { type RulesetText, readRules, readSets } from '../../models/netfilter/explore/ruleset-text.ts';
import { describeFlow } from '../../models/packet/describe.ts';
import { Frame } from '../../models/packet/frame.ts';
import {
  ANY_IP,
  type IpAddress,
  type IpFamily,
  isLoopback,
  LOOPBACK_IPV6,
  parseAddress,
} from '../../models/packet/ip-address.ts';
import type { JourneyStep } from '../../models/packet/journey.ts';
import { formatSteps } from '../../models/packet/journey-text.ts';
import { cannot } from '../harness/user-error.ts';
import { type Command, type CommandContext, collect, examples, optionValue } from './command-line.ts';

interface NetfilterOptions {
  readonly rules: readonly string[];
  readonly ipset?: string;
  readonly lenient?: true;
  readonly packet: (frame: Frame) => void;
  readonly in?: string;
  readonly out?: string;
  readonly local?: readonly IpAddress[];
  readonly state?: State;
  readonly sentHere?: true;
  readonly json?: true;
}

const STATES = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'] as const;
type State = (typeof STATES)[number];

export function addNetfilter(program: Command, context: CommandContext): void {
  program
    .command('netfilter')
    .description(
      'Walk a packet through the rules of a node (of iptables or nftables), rule by rule, into every outcome.',
    )
    .requiredOption(
      '--rules <file>',
      'what iptables-save, ip6tables-save (for IPv6 packets) or nft list ruleset printed; may be repeated; - is standard input',
      collect,
    )
    .option('--ipset <file>', 'what ipset save printed, for rules with -m set')
    .option('--lenient', 'report matches and targets that are not modelled, and let their rules match nothing')
    .requiredOption(
      '--packet <packet>',
      "'tcp 10.244.1.5:4000 > 10.96.0.10:53'; udp, sctp, icmp, icmpv6; TCP flags as [S.]",
      optionValue(readPacket),
    )
    .option('--in <device>', 'the device by which it comes in; without it no rule with -i matches')
    .option('--out <device>', 'the device by which it would leave; without it no rule with -o matches')
    .option(
      '--local <address>',
      "an address of the node itself (may be repeated); MASQUERADE uses the first of the packet's family",
      (text: string, earlier: readonly IpAddress[] = []) => [...earlier, optionValue(parseAddress)(text)],
    )
    .option('--sent-here', 'a process of the node sends it: it begins in OUTPUT')
    .option(
      '--state <state>',
      `what conntrack says of it: ${STATES.join(', ')}; NEW, and the default, leave it to conntrack`,
      optionValue(readState),
    )
    .option('--json', 'outcomes as JSON')
    .addHelpText('after', examples(...EXAMPLES))
    .action((options: NetfilterOptions) => {
      const outcomes = explore(options, context);
      context.stdout.write(
        options.json ? `${JSON.stringify(outcomes.map(toJson), undefined, 2)}\n` : show(options, outcomes),
      );
    });
}

const EXAMPLES = [
  "iptables-save | podwire netfilter --rules - --packet 'tcp 10.244.1.5:4000 > 10.96.0.1:443' --in cbr0",
  "podwire netfilter --rules node-1.rules --packet 'udp 203.0.113.9:4000 > 192.0.2.1:30053' --local 192.0.2.1 --in eth0",
  "podwire netfilter --rules node-1.rules --packet 'tcp 10.244.1.5:4000 > 10.96.0.1:443 [R]' --state INVALID",
];

function explore(options: NetfilterOptions, { stderr }: CommandContext): PacketOutcome[] {
  const { packet, local = [], sentHere, state, ...devices } = options;
  const { family } = framed(packet);
  const lenient = options.lenient === true;
  const parts = [
    ...(options.ipset === undefined ? [] : [readSets(textOf(options.ipset))]),
    ...options.rules.map((file) => readRules(textOf(file), { family, lenient })),
  ];
  for (const note of parts.flatMap(({ notes }) => notes)) stderr.write(`not modelled, matches nothing: ${note}\n`);
  return explorePacket(
    {
      load: (netfilter) => {
        for (const { load } of parts) load(netfilter);
      },
      isLocal: (ip) =>
        local.some((address) => address.family === family && address.ip === ip) || isLoopbackOf(family, ip),
      masqueradeIp: () => local.find((address) => address.family === family)?.ip ?? ANY_IP,
      inDevice: devices.in,
      outDevice: devices.out,
    },
    {
      fill: (frame) => {
        packet(frame);
        frame.conntrackState = STATE_BITS[state ?? 'NEW'];
      },
      isLocallySent: sentHere === true,
    },
  );
}

/** Conntrack looks at an invalid packet again unless something beside it has been decided. */
const DECIDED = 1 << 30;

const STATE_BITS: Readonly<Record<State, number>> = {
  NEW: 0,
  ESTABLISHED: CT_ESTABLISHED,
  RELATED: CT_RELATED,
  INVALID: CT_INVALID | DECIDED,
  UNTRACKED: CT_UNTRACKED,
};

// ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────

function textOf(file: string): RulesetText {
  try {
    const text = readFileSync(file === '-' ? process.stdin.fd : file, 'utf8');
    return { text, fileName: file === '-' ? 'standard input' : file };
  } catch (error) {
    throw cannot('read', file, error);
  }
}

function readPacket(text: string): (frame: Frame) => void {
  framed((frame) => fillFromText(frame, text));
  return (frame) => fillFromText(frame, text);
}

function framed(fill: (frame: Frame) => void): Frame {
  const frame = new Frame();
  fill(frame);
  return frame;
}

function readState(text: string): State {
  const state = STATES.find((known) => known === text.toUpperCase());
  if (state === undefined) throw new RangeError(`Expected one of ${STATES.join(', ')}.`);
  return state;
}

const isLoopbackOf = (family: IpFamily, ip: IpAddress['ip']): boolean =>
  family === 6 ? ip === LOOPBACK_IPV6 : isLoopback(ip);

// ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────

/** The walk up to the first thing that chance decides, the outcomes, and the rest of the walk to each. */
function show(options: NetfilterOptions, outcomes: readonly PacketOutcome[]): string {
  const common = Math.min(...outcomes.map(({ steps, branches }) => branches[0] ?? steps.length));
  const lines = [title(options), '', ...indented(outcomes[0]!.steps.slice(0, common)), '', ...table(outcomes)];
  if (outcomes.length > 1) {
    for (const outcome of outcomes) {
      const count = `${outcome.rulesVisited} rules compared`;
      lines.push('', `${percent(outcome.probability)}  ${ending(outcome)}  (${count})`);
      lines.push(...indented(outcome.steps.slice(common)));
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}

function title({ packet, state, in: inDevice, sentHere, local }: NetfilterOptions): string {
  const origin = sentHere ? ', sent here' : inDevice === undefined ? '' : `, in ${inDevice}`;
  const unknown = local === undefined ? "; 0.0.0.0 stands for the node's address (--local)" : '';
  return `${describeFlow(framed(packet))}${state === undefined ? '' : `, ${state}`}${origin}${unknown}`;
}

const indented = (steps: readonly JourneyStep[]): string[] => formatSteps(steps).map((line) => `  ${line}`);

/** Different walks to the same end are one line. */
function table(outcomes: readonly PacketOutcome[]): string[] {
  const shares = new Map<string, number>();
  for (const outcome of outcomes) {
    shares.set(ending(outcome), (shares.get(ending(outcome)) ?? 0) + outcome.probability);
  }
  const total = outcomes.reduce((sum, { probability }) => sum + probability, 0);
  const rows = [...shares].map(([end, share]) => `${percent(share)}  ${end}`);
  return shares.size === 1 ? rows : [...rows, `${percent(total)}  in all`];
}

function ending(outcome: PacketOutcome): string {
  const { verdict, packet, goesTo } = outcome;
  const verb = verdict === 'accepted' || verdict === 'dropped' ? verdict : `rejected with ${verdict}`;
  return `${verb}  ${describeFlow(packet)}${goesTo === undefined ? '' : ` to ${goesTo}`}`;
}

const percent = (probability: number): string => `${(100 * probability).toFixed(6)} %`.padStart(12);

function toJson({ probability, verdict, goesTo, packet, rulesVisited, steps }: PacketOutcome): object {
  const walk = steps.map(({ at: _at, namespace: _namespace, ...step }) => step);
  return { probability, verdict, goesTo, packet: describeFlow(packet), rulesVisited, walk };
}

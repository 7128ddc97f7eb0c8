// Reads parity cases from JSON. A case is checked whole before anything is built of it: the first wrong field ends in
// one line that names file, place, expectation and what was there. Unknown fields are errors: nothing is read and
// ignored.

import { z } from 'zod';
import { isIpv4, isIpv6 } from '../packet/ip-address.ts';
import { OVERLAYS, type ParityCase, type Step } from './case.ts';
import { CaseError } from './case-error.ts';
import { describeExpectation, describeProblem } from './problem-text.ts';

/** Throws a CaseError. */
export function parseCase(text: string, fileName: string): ParityCase {
  return checkCase(readJson(text, fileName), fileName);
}

/** The same for a value that is JSON already. */
export function checkCase(value: unknown, fileName: string): ParityCase {
  const result = parityCase.safeParse(value, { error: describeExpectation });
  if (!result.success) throw new CaseError(`${fileName}: ${describeProblem(result.error, value)}`);
  // JSON has no undefined, which is all that the schema's optional fields have and the case's have not.
  return result.data as ParityCase;
}

function readJson(text: string, fileName: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CaseError(`${fileName}: ${error instanceof Error ? error.message : error}; expected JSON`);
  }
}

// ── the schema ───────────────────────────────────────────────────────────────────────────────────────────────────────

const whole = (least: number, most: number) => {
  const error = `a whole number from ${least} to ${most}`;
  return z.int(error).min(least, error).max(most, error);
};

const byte = whole(0, 255);
const port = whole(0, 65_535);
const word = whole(0, 0xffff_ffff);
const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{0,14}$/, 'a name of at most 15 lower-case letters, digits, "-", "."');
const ipv4 = z.string().refine(isIpv4, 'an IPv4 address');
const ipv6 = z.string().refine(isIpv6, 'an IPv6 address');
const ip = z.string().refine((text) => isIpv4(text) || isIpv6(text), 'an IP address');
const ipv4Prefix = z.string().refine((text) => {
  const [address = '', length = ''] = text.split('/');
  return isIpv4(address) && /^\d{1,2}$/.test(length) && Number(length) <= 32;
}, 'an IPv4 address with the length of its prefix such as 172.21.0.1/24');
const routable = z.string().refine((text) => {
  const [address = '', length] = text.split('/');
  const longest = isIpv4(address) ? 32 : isIpv6(address) ? 128 : -1;
  return length !== undefined && /^\d{1,3}$/.test(length) && Number(length) <= longest;
}, 'default, or a prefix such as 172.21.0.0/16 or fd00:96::/112');
const podRange = z.string().refine((text) => {
  const [net = '', length] = text.split('/');
  return length === '24' && isIpv4(net) && net.endsWith('.0');
}, 'an IPv4 range of 24 bits such as 10.244.1.0/24');
const podRange6 = z.string().refine((text) => {
  const [net = '', length] = text.split('/');
  return length === '64' && isIpv6(net);
}, 'an IPv6 range of 64 bits such as fd00:10:244:1::/64');
const macOrDevice = z
  .string()
  .regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$|^[^/]+\/[^/]+$/, 'a MAC address in lower-case hex, or NAMESPACE/DEVICE');
const mtu = whole(68, 65_535);

const pod = z.strictObject({
  name,
  ip: ipv4,
  ip6: ipv6.optional(),
  hairpin: z.boolean().optional(),
  stack: z.boolean().optional(),
});

const node = z.strictObject({
  name,
  ip: ipv4.optional(),
  ip6: ipv6.optional(),
  podCIDR: podRange,
  podCIDR6: podRange6.optional(),
  bridge: z.boolean().optional(),
  ptp: z.boolean().optional(),
  fabricMtu: mtu.optional(),
  sysctls: z.record(z.string(), z.union([z.number(), z.string()], 'a number or a string')).optional(),
  addresses: z.array(z.strictObject({ address: ipv4Prefix, dev: z.string() })).optional(),
  routes: z
    .array(z.strictObject({ to: z.union([routable, z.literal('default')]), via: ip.optional(), dev: z.string() }))
    .optional(),
  pods: z.array(pod).max(64, 'at most 64 pods'),
});

const topology = z
  .strictObject({
    nodes: z.array(node).min(1, 'at least one node').max(16, 'at most 16 nodes'),
    overlay: z.enum(OVERLAYS).optional(),
    fabric: z.boolean().optional(),
    cold: z.boolean().optional(),
  })
  .superRefine(namesAreDistinct)
  .superRefine(nodesOnTheFabricHaveAddresses);

const nodeRules = z.strictObject({
  backend: z.enum(['legacy', 'nft', 'nftnative']),
  text: z.string(),
  text6: z.string().optional(),
  ipset: z.string().optional(),
});
const rulesByNode = z.record(z.string(), nodeRules);

const packet = z.strictObject({
  from: z.string(),
  local: z.boolean().optional(),
  proto: z.enum(['udp', 'tcp', 'sctp', 'icmp', 'icmpv6']),
  src: ip,
  dst: ip,
  sport: port.optional(),
  dport: port.optional(),
  flags: z
    .string()
    .regex(/^[SAFRPU]*$/, 'letters of SAFRPU')
    .optional(),
  seq: word.optional(),
  ack: word.optional(),
  win: port.optional(),
  type: byte.optional(),
  code: byte.optional(),
  id: port.optional(),
  seqn: port.optional(),
  ttl: byte.optional(),
  tos: byte.optional(),
  ipid: port.optional(),
  df: z.boolean().optional(),
  frag: port.optional(),
  payload: z.string().max(60_000, 'at most 60000 characters').optional(),
  pad: whole(0, 60_000).optional(),
  fragmentMtu: mtu.optional(),
  dmac: macOrDevice.optional(),
  autoreply: z.boolean().optional(),
  cpu: whole(0, 255).optional(),
});
const portedPacket = packet.superRefine(({ proto, sport, dport }, context) => {
  if (proto === 'icmp' || proto === 'icmpv6') return;
  for (const [field, value] of Object.entries({ sport, dport })) {
    if (value === undefined) context.addIssue({ code: 'custom', path: [field], message: `the ${field} of ${proto}` });
  }
});

const wait = z.strictObject({ waitMs: z.number().min(0, 'milliseconds').max(3_600_000, 'at most an hour') });
const flush = z.strictObject({ flush: z.literal('conntrack') });
const rules = z.strictObject({ rules: rulesByNode });
const transport = z.enum(['tcp', 'udp']);
const listen = z.strictObject({
  do: z.literal('listen'),
  in: z.string(),
  proto: transport,
  ip: ip.optional(),
  port: whole(1, 65_535),
});
const connect = z.strictObject({
  do: z.literal('connect'),
  in: z.string(),
  proto: transport,
  ip,
  port: whole(1, 65_535),
  sport: whole(1, 65_535).optional(),
  timeoutMs: whole(1, 600_000).optional(),
});
const close = z.strictObject({ do: z.literal('close'), in: z.string() });
const socket = z.strictObject({
  socket: z.discriminatedUnion('do', [listen, connect, close], 'do: listen, connect or close'),
});

/** The key that tells what a step is; a packet has none of them. */
const STEPS: Readonly<Record<string, z.ZodType<unknown>>> = { waitMs: wait, flush, rules, socket };

const step = z.unknown().transform((value, context) => {
  const key = value instanceof Object ? Object.keys(STEPS).find((candidate) => candidate in value) : undefined;
  const schema: z.ZodType<unknown> = key === undefined ? portedPacket : STEPS[key]!;
  const result = schema.safeParse(value, { error: describeExpectation });
  if (result.success) return result.data as Step;
  for (const issue of result.error.issues) context.issues.push({ ...issue, input: value } as z.core.$ZodRawIssue);
  return z.NEVER;
});

const parityCase = z
  .strictObject({
    name: z.string().optional(),
    topology,
    paceMs: whole(0, 1000).optional(),
    rules: rulesByNode.optional(),
    packets: z.array(step).max(100_000, 'at most 100000 steps'),
  })
  .superRefine(namesExist);

function namesAreDistinct({ nodes }: z.output<typeof topologyShape>, context: z.core.$RefinementCtx): void {
  const seen = new Set(['fab']);
  const check = (taken: string, path: (string | number)[]): void => {
    if (seen.has(taken)) context.addIssue({ code: 'custom', path, message: 'a name that is not taken' });
    seen.add(taken);
  };
  for (const [i, { name, pods }] of nodes.entries()) {
    check(name, ['nodes', i, 'name']);
    for (const [j, pod] of pods.entries()) check(pod.name, ['nodes', i, 'pods', j, 'name']);
  }
}

function nodesOnTheFabricHaveAddresses(
  { nodes, fabric, overlay = 'host-gw' }: z.output<typeof topologyShape>,
  context: z.core.$RefinementCtx,
): void {
  if (nodes.length === 1 && fabric !== true) return;
  const expect = (i: number, field: 'ip' | 'ip6' | 'podCIDR6', message: string): void => {
    if (nodes[i]![field] === undefined) context.addIssue({ code: 'custom', path: ['nodes', i, field], message });
  };
  for (const i of nodes.keys()) {
    expect(i, 'ip', 'an address on the fabric');
    if (overlay !== 'vxlan6' && overlay !== 'vxlan-by-family') continue;
    expect(i, 'ip6', `an IPv6 address on the fabric, for overlay ${overlay}`);
    expect(i, 'podCIDR6', `an IPv6 range, for overlay ${overlay}`);
  }
}

/** What the refinements of the topology see. */
const topologyShape = z.object({
  nodes: z.array(
    z.object({
      name: z.string(),
      ip: z.string().optional(),
      ip6: z.string().optional(),
      podCIDR6: z.string().optional(),
      pods: z.array(z.object({ name: z.string() })),
    }),
  ),
  fabric: z.boolean().optional(),
  overlay: z.enum(OVERLAYS).optional(),
});

interface NamedPlaces {
  readonly topology: z.output<typeof topologyShape>;
  readonly rules?: Readonly<Record<string, unknown>> | undefined;
  readonly packets: readonly Step[];
}

function namesExist({ topology, rules = {}, packets }: NamedPlaces, context: z.core.$RefinementCtx): void {
  const nodes = new Set(topology.nodes.map(({ name }) => name));
  const namespaces = new Set([...nodes, ...topology.nodes.flatMap(({ pods }) => pods.map(({ name }) => name)), 'fab']);
  const expect = (known: ReadonlySet<string>, given: string, path: (string | number)[], what: string): void => {
    if (!known.has(given)) context.addIssue({ code: 'custom', path, message: `${what}: ${[...known].join(', ')}` });
  };
  for (const node of Object.keys(rules)) expect(nodes, node, ['rules', node], 'rules of a node');
  for (const [i, step] of packets.entries()) {
    if ('from' in step)
      expect(namespaces, step.from.split('/')[0]!, ['packets', i, 'from'], 'a pod or NAMESPACE/DEVICE');
    else if ('rules' in step)
      for (const node of Object.keys(step.rules)) expect(nodes, node, ['packets', i, 'rules', node], 'rules of a node');
    else if ('socket' in step) expect(namespaces, step.socket.in, ['packets', i, 'socket', 'in'], 'a namespace');
  }
}

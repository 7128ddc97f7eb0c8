// podwire resolve: a name looked up in a pod as its C library does it, query by query.

import { inUs, ms } from '../../engine/time.ts';
import type { Cluster } from '../../models/cluster.ts';
import type { DnsChoice } from '../../models/cluster-dns.ts';
import { absolute, DomainNameError, encodeLabels, reverseNameOf } from '../../models/dns/domain-name.ts';
import { type DnsMessage, type RecordType, TYPE_CODES } from '../../models/dns/message.ts';
import { formatQuestion, formatRecord } from '../../models/dns/message-text.ts';
import { formatResolvConf, type Libc } from '../../models/dns/resolv-conf.ts';
import type { SentQuery } from '../../models/dns/stub-exchange.ts';
import type { LookupStatus, StubResolver } from '../../models/dns/stub-resolver.ts';
import { formatIp, formatSocketAddress, isIpv4, isIpv6 } from '../../models/packet/ip-address.ts';
import { captureOf, writeCapture } from './capture.ts';
import {
  type Command,
  type CommandContext,
  examples,
  inWords,
  oneOf,
  optionValue,
  wholeNumber,
} from './command-line.ts';
import {
  addClusterChoice,
  addManifestOptions,
  type ClusterChoice,
  clusterOf,
  type ManifestOptions,
} from './manifest-options.ts';
import { senderIn } from './request-options.ts';

interface ResolveOptions extends ManifestOptions, ClusterChoice {
  readonly from: string;
  readonly libc: Libc;
  readonly coredns: number;
  readonly nodeLocal?: true;
  readonly clusterDomain: string;
  readonly hostSearch?: readonly string[];
  readonly upstream?: UpstreamNames;
  readonly pcap?: string;
  readonly seed: number;
}

type UpstreamNames = Readonly<Record<string, readonly string[]>>;

const LIBCS = ['glibc', 'musl'] as const;
const TYPES = Object.keys(TYPE_CODES);

export function addResolve(program: Command, context: CommandContext): void {
  addClusterChoice(addManifestOptions(program.command('resolve')))
    .description('Look a name up in a pod, as its C library does: every query, to which server, and what came back.')
    .argument('<name>', 'what the program asks for: web, web.shop, www.example.com. (an address, for PTR)')
    .argument(
      '[type]',
      `one type of records, as ${inWords(['A', 'SRV', 'PTR'])} (default: addresses, by getaddrinfo)`,
      readType,
    )
    .requiredOption('--from <pod>', 'a pod as NAMESPACE/NAME, a node, or outside')
    .option('--libc <name>', `the C library of the pod: ${inWords(LIBCS)}`, oneOf(LIBCS), 'glibc')
    .option('--coredns <n>', 'pods of CoreDNS, if the manifests have no Service kube-system/kube-dns', wholeNumber(), 2)
    .option('--node-local', 'a NodeLocal DNSCache on each node')
    .option('--cluster-domain <domain>', 'of the names of Services', optionValue(readDomain), 'cluster.local')
    .option('--host-search <domains>', "the nodes' own search list, with commas", optionValue(readDomains))
    .option(
      '--upstream <name=target>',
      'a name outside, and its address or the name that it is an alias of; may be repeated',
      readUpstream,
    )
    .option('--pcap <file>', 'also write a pcapng with an interface per device')
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .addHelpText('after', examples(...EXAMPLES))
    .action((name: string, type: RecordType | undefined, options: ResolveOptions) => {
      const cluster = clusterOf({ ...options, dns: dnsOf(options) }, context);
      const lookup = resolve(cluster, { name, type, options });
      context.stdout.write(printed(lookup));
      if (lookup.status !== 'ok') context.exitCode = 1;
    });
}

const EXAMPLES = [
  'podwire resolve --from shop/orders-db-0 catalog',
  'podwire resolve --from shop/orders-db-0 catalog.shop SRV',
  'podwire resolve --from shop/orders-db-0 www.example.com --upstream www.example.com=192.0.2.53 --libc musl',
  'podwire resolve -f my-manifests.yaml --from my-pod 10.96.0.10 PTR --ip-family dual',
];

const dnsOf = ({ coredns, nodeLocal, clusterDomain, hostSearch, upstream, libc }: ResolveOptions): DnsChoice => ({
  replicas: coredns,
  nodeLocal: nodeLocal ?? false,
  domain: clusterDomain,
  hostSearches: hostSearch ?? [],
  upstream: { names: upstream ?? {} },
  libc,
});

interface Resolved {
  readonly conf: string;
  readonly libc: Libc;
  readonly status: LookupStatus;
  readonly result: readonly string[];
  readonly queries: readonly SentQuery[];
  readonly tookUs: number;
}

function resolve(
  cluster: Cluster,
  {
    name,
    type,
    options,
  }: { readonly name: string; readonly type: RecordType | undefined; readonly options: ResolveOptions },
): Resolved {
  const { libc, pcap } = options;
  const sender = senderIn(cluster, options.from);
  cluster.start();
  const capture = pcap === undefined ? undefined : captureOf(cluster);
  const queries: SentQuery[] = [];
  const resolver = cluster.resolverOf(sender, { libc, onQuery: (query) => queries.push(query) });
  // Let what happens at the start of a cluster (neighbor discovery, addresses) be over.
  cluster.runFor(ms(100));
  const began = cluster.sim.now;
  let ended: Pick<Resolved, 'status' | 'result' | 'tookUs'> | undefined;
  ask(resolver, { name, type }, (outcome) => {
    ended = { ...outcome, tookUs: inUs(cluster.sim.now) - inUs(began) };
  });
  while (ended === undefined) cluster.runFor(ms(100));
  cluster.runFor(ms(100));
  cluster.assertConserved();
  if (capture !== undefined && pcap !== undefined) writeCapture(pcap, capture);
  return { conf: formatResolvConf(cluster.dns.resolvConfOf(sender)), libc, ...ended, queries };
}

function ask(
  resolver: StubResolver,
  { name, type }: { readonly name: string; readonly type: RecordType | undefined },
  done: (outcome: Pick<Resolved, 'status' | 'result'>) => void,
): void {
  if (type === undefined)
    return resolver.lookup(name, {}, ({ status, addresses }) =>
      done({ status, result: addresses.map(({ ip, family }) => formatIp(ip, family)) }),
    );
  const isAddress = isIpv4(name) || isIpv6(name);
  resolver.search(type === 'PTR' && isAddress ? reverseNameOf(name) : name, type, ({ status, answer }) =>
    done({ status, result: answer?.answers.map(formatRecord) ?? [] }),
  );
}

// ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

function printed({ conf, libc, status, result, queries, tookUs }: Resolved): string {
  const start = queries[0]?.sentAt ?? 0;
  const lines = [
    '/etc/resolv.conf',
    ...conf.trimEnd().split('\n').map(indented),
    '',
    ...queries.flatMap((query) => queryLines(query, start)),
    ...(queries.length === 0 ? [] : ['']),
  ];
  const count = `${queries.length} ${queries.length === 1 ? 'query' : 'queries'}`;
  const outcome = status === 'ok' ? result.join(', ') : `${status}: ${MESSAGES[libc][status]}`;
  return [...lines, `${outcome} after ${formatUs(tookUs)}, ${count}`].map((line) => `${line}\n`).join('');
}

const indented = (line: string): string => `  ${line}`;

function formatUs(time: number): string {
  if (time < 1e4) return `${time.toFixed(1)} µs`;
  return time < 1e6 ? `${(time / 1e3).toFixed(2)} ms` : `${(time / 1e6).toFixed(3)} s`;
}

function queryLines(
  { question, server, protocol, sentAt, answeredAt, answer, failure }: SentQuery,
  start: number,
): string[] {
  const to = formatSocketAddress(server.ip, server.port, server.family);
  const head = `${formatUs((sentAt - start) / 1e3)}  ${formatQuestion(question)} to ${to} over ${protocol}`;
  if (answer === undefined || answeredAt === undefined) return [`${head}: ${failure ?? 'no answer was waited for'}`];
  const took = formatUs((answeredAt - sentAt) / 1e3);
  return [`${head}: ${describeAnswer(answer)} after ${took}`, ...answer.answers.map(formatRecord).map(indented)];
}

function describeAnswer({ rcode, answers, isTruncated }: DnsMessage): string {
  const what = rcode === 'NOERROR' && answers.length === 0 ? 'NOERROR without data' : rcode;
  return isTruncated ? `${what}, truncated` : what;
}

/** gai_strerror(3). */
const MESSAGES: Readonly<Record<Libc, Readonly<Record<LookupStatus, string>>>> = {
  glibc: {
    ok: 'Success',
    EAI_NONAME: 'Name or service not known',
    EAI_NODATA: 'No address associated with hostname',
    EAI_AGAIN: 'Temporary failure in name resolution',
    EAI_FAIL: 'Non-recoverable failure in name resolution',
  },
  musl: {
    ok: 'Success',
    EAI_NONAME: 'Name does not resolve',
    EAI_NODATA: 'Name has no usable address',
    EAI_AGAIN: 'Try again',
    EAI_FAIL: 'Non-recoverable error',
  },
};

// ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const readType = optionValue((text: string): RecordType => {
  const type = text.toUpperCase();
  if (TYPES.includes(type) || /^TYPE\d{1,5}$/.test(type)) return type as RecordType;
  throw new RangeError(`Expected a type of records: ${inWords(TYPES)}.`);
});

/** Without the final dot, as in a search list. */
function readDomain(text: string): string {
  try {
    if (encodeLabels(text).length > 0) return absolute(text).slice(0, -1);
  } catch (error) {
    if (!(error instanceof DomainNameError)) throw error;
  }
  throw new RangeError('Expected a domain such as cluster.local.');
}

function readDomains(text: string): readonly string[] {
  return text.split(',').map((domain) => readDomain(domain.trim()));
}

const readUpstream = (text: string, before: UpstreamNames = {}): UpstreamNames => {
  const [name, target] = optionValue(readPair)(text);
  return { ...before, [name]: [...(before[name] ?? []), target] };
};

function readPair(text: string): readonly [string, string] {
  const [, name, target] = /^([^=]+)=([^=]+)$/.exec(text) ?? [];
  if (name === undefined || target === undefined)
    throw new RangeError('Expected NAME=ADDRESS, for example www.example.com=192.0.2.53.');
  return [name, target];
}

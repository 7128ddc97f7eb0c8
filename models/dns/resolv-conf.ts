// /etc/resolv.conf: read as kubelet reads the node's, made as kubelet makes a pod's (pkg/kubelet/network/dns), and taken
// by C libraries with their own limits.

export interface ResolvConf {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  /** As they are written: `ndots:5`, `rotate`. */
  readonly options: readonly string[];
}

export const EMPTY_RESOLV_CONF: ResolvConf = { nameservers: [], searches: [], options: [] };

export type DnsPolicy = 'ClusterFirst' | 'ClusterFirstWithHostNet' | 'Default' | 'None';

export interface PodDnsConfig {
  readonly nameservers?: readonly string[] | undefined;
  readonly searches?: readonly string[] | undefined;
  readonly options?: readonly { readonly name: string; readonly value?: string | undefined }[] | undefined;
}

/** What of a pod's spec says where it asks for names. */
export interface PodDnsSpec {
  readonly dnsPolicy?: DnsPolicy | undefined;
  readonly dnsConfig?: PodDnsConfig | undefined;
  readonly hostNetwork?: boolean | undefined;
}

/** Flags of kubelet, and the node's own file. */
export interface KubeletDns {
  readonly clusterDns: readonly string[];
  /** Empty: pods get no search list of the cluster. */
  readonly clusterDomain: string;
  readonly host: ResolvConf;
}

/** What kubelet says of a pod whose file is not what it asked for. */
export type DnsEvent = 'MissingClusterDNS' | 'DNSConfigForming';

export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let searches: readonly string[] = [];
  let options: readonly string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver') nameservers.push(...values.slice(0, 1));
    if (keyword === 'search') searches = values.map((domain) => (domain === '.' ? domain : domain.replace(/\.$/, '')));
    if (keyword === 'options') options = mergeOptions(options, values);
  }
  return { nameservers, searches, options };
}

export const formatResolvConf = ({ nameservers, searches, options }: ResolvConf): string =>
  [
    ...(searches.length === 0 ? [] : [`search ${searches.join(' ')}`]),
    ...nameservers.map((address) => `nameserver ${address}`),
    ...(options.length === 0 ? [] : [`options ${options.join(' ')}`]),
  ]
    .map((line) => `${line}\n`)
    .join('');

/** The file of a pod. Lists that are too long are cut, which kubelet says by an event. */
export function podResolvConf(
  { namespace, spec }: { readonly namespace: string; readonly spec: PodDnsSpec },
  kubelet: KubeletDns,
): { readonly conf: ResolvConf; readonly event: DnsEvent | undefined } {
  const { dnsPolicy = 'ClusterFirst', dnsConfig, hostNetwork = false } = spec;
  const wantsCluster = dnsPolicy === 'ClusterFirstWithHostNet' || (dnsPolicy === 'ClusterFirst' && !hostNetwork);
  const isMissing = wantsCluster && kubelet.clusterDns.length === 0;
  const base =
    dnsPolicy === 'None'
      ? EMPTY_RESOLV_CONF
      : wantsCluster && !isMissing
        ? clusterFirst(namespace, kubelet)
        : kubelet.host;
  const { conf, isCut } = withinLimits(dnsConfig === undefined ? base : withDnsConfig(base, dnsConfig));
  return { conf, event: isMissing ? 'MissingClusterDNS' : isCut ? 'DNSConfigForming' : undefined };
}

/** The cluster's servers alone: they forward what is not the cluster's. Of the node's file only its search list counts. */
function clusterFirst(namespace: string, { clusterDns, clusterDomain: domain, host }: KubeletDns): ResolvConf {
  const own = domain === '' ? [] : [`${namespace}.svc.${domain}`, `svc.${domain}`, domain];
  return { nameservers: clusterDns, searches: distinct([...own, ...host.searches]), options: ['ndots:5'] };
}

const withDnsConfig = (
  base: ResolvConf,
  { nameservers = [], searches = [], options = [] }: PodDnsConfig,
): ResolvConf => ({
  nameservers: distinct([...base.nameservers, ...nameservers]),
  searches: distinct([...base.searches, ...searches]),
  options: mergeOptions(
    base.options,
    options.map(({ name, value }) => (value === undefined ? name : `${name}:${value}`)),
  ),
});

/** pkg/apis/core/validation: limits of what resolvers take. */
const MOST_NAMESERVERS = 3;
const MOST_SEARCHES = 32;
const LONGEST_SEARCH_LIST = 2048;
/** glibc 2.28 aborts at longer ones. */
const LONGEST_SEARCH = 255;

function withinLimits(conf: ResolvConf): { readonly conf: ResolvConf; readonly isCut: boolean } {
  const nameservers = conf.nameservers.slice(0, MOST_NAMESERVERS);
  const searches = conf.searches.slice(0, MOST_SEARCHES).filter(({ length }) => length <= LONGEST_SEARCH);
  while (searches.join(' ').length > LONGEST_SEARCH_LIST) searches.pop();
  const isCut = nameservers.length < conf.nameservers.length || searches.length < conf.searches.length;
  return { conf: { ...conf, nameservers, searches }, isCut };
}

const distinct = (values: readonly string[]): string[] => [...new Set(values)];

/** By name: a later one replaces an earlier one. */
function mergeOptions(before: readonly string[], more: readonly string[]): string[] {
  const byName = new Map([...before, ...more].map((option) => [option.split(':')[0]!, option]));
  return [...byName.values()];
}

// ── what a C library makes of it ─────────────────────────────────────────────────────────────────────────────────────

export type Libc = 'glibc' | 'musl';

export interface StubSettings {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  /** A name with fewer dots is looked for in the search list first. */
  readonly ndots: number;
  readonly timeoutSeconds: number;
  readonly attempts: number;
  /** glibc only. */
  readonly rotates: boolean;
  readonly isSequential: boolean;
  readonly reopensSocket: boolean;
  readonly usesTcp: boolean;
  readonly usesEdns: boolean;
}

/** RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY (glibc resolv.h); musl src/network/resolvconf.c. */
const LIMITS = {
  glibc: { ndots: 15, timeoutSeconds: 30, attempts: 5 },
  musl: { ndots: 15, timeoutSeconds: 60, attempts: 10 },
} as const;
/** MAXNS of both. */
const MOST_SERVERS_ASKED = 3;
/** musl ignores lines that do not fit into its buffer. */
const LONGEST_MUSL_LINE = 255;

export function stubSettings({ nameservers, searches, options }: ResolvConf, libc: Libc): StubSettings {
  const limits = LIMITS[libc];
  const isGnu = libc === 'glibc';
  const number = (name: string, byDefault: number): number => {
    const text = options.findLast((option) => option.startsWith(`${name}:`))?.slice(name.length + 1);
    return text !== undefined && /^\d+/.test(text) ? Number.parseInt(text, 10) : byDefault;
  };
  const has = (name: string): boolean => isGnu && options.includes(name);
  const line = `search ${searches.join(' ')}\n`;
  return {
    nameservers: nameservers.length === 0 ? ['127.0.0.1'] : nameservers.slice(0, MOST_SERVERS_ASKED),
    searches: isGnu || line.length <= LONGEST_MUSL_LINE ? searches : [],
    ndots: Math.min(number('ndots', 1), limits.ndots),
    timeoutSeconds: Math.min(number('timeout', 5), limits.timeoutSeconds),
    attempts: Math.min(number('attempts', 2), limits.attempts),
    rotates: has('rotate'),
    isSequential: has('single-request') || has('single-request-reopen'),
    reopensSocket: has('single-request-reopen'),
    usesTcp: has('use-vc'),
    usesEdns: has('edns0'),
  };
}

// What a pod is called, and its /etc/hosts (pkg/kubelet/kubelet_pods.go, pkg/kubelet/util).

export interface NamedPod {
  readonly name: string;
  readonly namespace: string;
  readonly hostname?: string | undefined;
  readonly subdomain?: string | undefined;
  readonly podIps: readonly string[];
  readonly hostAliases?: readonly { readonly ip: string; readonly hostnames: readonly string[] }[] | undefined;
}

/** The kernel's limit of a hostname. */
const LONGEST_HOSTNAME = 63;

export const podHostname = ({ name, hostname }: Pick<NamedPod, 'name' | 'hostname'>): string =>
  (hostname ?? name).slice(0, LONGEST_HOSTNAME).replace(/[-.]+$/, '');

/** Empty without a subdomain. */
export const podDomain = (
  { namespace, subdomain }: Pick<NamedPod, 'namespace' | 'subdomain'>,
  clusterDomain: string,
): string => (subdomain === undefined ? '' : `${subdomain}.${namespace}.svc.${clusterDomain}`);

/** An address and its names. */
export interface HostsLine {
  readonly address: string;
  readonly names: readonly string[];
}

export function podHosts(pod: NamedPod, clusterDomain: string): HostsLine[] {
  const hostname = podHostname(pod);
  const domain = podDomain(pod, clusterDomain);
  const names = domain === '' ? [hostname] : [`${hostname}.${domain}`, hostname];
  return [...LOCAL, ...pod.podIps.map((address) => ({ address, names })), ...aliasLines(pod)];
}

export const aliasLines = ({ hostAliases = [] }: Pick<NamedPod, 'hostAliases'>): HostsLine[] =>
  hostAliases.map(({ ip, hostnames }) => ({ address: ip, names: hostnames }));

const LOCAL: readonly HostsLine[] = [
  { address: '127.0.0.1', names: ['localhost'] },
  { address: '::1', names: ['localhost', 'ip6-localhost', 'ip6-loopback'] },
  { address: 'fe00::0', names: ['ip6-localnet'] },
  { address: 'fe00::0', names: ['ip6-mcastprefix'] },
  { address: 'fe00::1', names: ['ip6-allnodes'] },
  { address: 'fe00::2', names: ['ip6-allrouters'] },
];

// Names below the cluster's domain, taken apart: `web.shop.svc`, `_http._tcp.web.shop.svc`, `pg-0.pg.dbs.svc`,
// `10-244-1-5.shop.pod` (Kubernetes DNS specification 1.1.0; plugin/kubernetes/parse.go).

export interface ClusterName {
  readonly kind: 'svc' | 'pod';
  readonly namespace: string | undefined;
  readonly service: string | undefined;
  /** Of an endpoint, or of the cluster that it is in. */
  readonly endpoint: string | undefined;
  readonly cluster: string | undefined;
  readonly port: string | undefined;
  readonly protocol: string | undefined;
  /** Endpoints of one zone only, or rather of it than of others. */
  readonly zone: { readonly name: string; readonly isPinned: boolean } | undefined;
}

/** 'apex': the domain itself, `svc` or `pod`, which are there but have no records; undefined: no name of this form. */
export function parseClusterName(
  labels: readonly string[],
  { isMulticluster, hasZonalNames }: { readonly isMulticluster: boolean; readonly hasZonalNames: boolean },
): ClusterName | 'apex' | undefined {
  const kind = labels.at(-1);
  if (kind === undefined) return 'apex';
  if (kind !== 'svc' && kind !== 'pod') return undefined;
  if (labels.length === 1) return 'apex';
  const [service, namespace] = [labels.at(-3), labels.at(-2)];
  const rest = labels.slice(0, -3);
  const name: ClusterName = { ...NOTHING, kind, namespace, service };
  const [first, second, third] = rest;
  switch (rest.length) {
    case 0:
      return name;
    case 1:
      return { ...name, endpoint: first };
    case 2:
      if (isMulticluster && !first!.startsWith('_') && !second!.startsWith('_'))
        return { ...name, endpoint: first, cluster: second };
      return { ...name, port: withoutUnderscore(first!), protocol: withoutUnderscore(second!) };
    case 3:
      if (!hasZonalNames || isMulticluster || kind !== 'svc' || third !== '_zone') return undefined;
      if (second !== 'pin' && second !== 'prefer') return undefined;
      return { ...name, zone: { name: first!, isPinned: second === 'pin' } };
    default:
      return undefined;
  }
}

const NOTHING = {
  endpoint: undefined,
  cluster: undefined,
  port: undefined,
  protocol: undefined,
  zone: undefined,
} as const;

const withoutUnderscore = (label: string): string => label.replace(/^_/, '');

/** The first label of an endpoint's name: its hostname, or else its pod's name, or its address with dashes. */
export function endpointLabel(
  endpoint: { readonly address: string; readonly hostname: string | undefined; readonly podName: string | undefined },
  { usesPodNames }: { readonly usesPodNames: boolean },
): string {
  if (endpoint.hostname !== undefined) return endpoint.hostname;
  if (usesPodNames && endpoint.podName !== undefined) return endpoint.podName;
  const dashed = endpoint.address.replace(/[.:]/g, '-');
  // No label may end with a dash.
  return dashed.endsWith('-') ? `${dashed}0` : dashed;
}

/** `10-244-1-5` as `10.244.1.5`, `fd00--1` as `fd00::1`: what such a label says, which may be no address. */
export const addressOfLabel = (label: string): string =>
  /^[^-]+(-[^-]+){3}$/.test(label) ? label.replaceAll('-', '.') : label.replaceAll('-', ':');

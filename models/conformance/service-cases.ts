// Cases about the addresses and node ports of Services (areas service-ip and nodeport of ipam-cni.json), put to the API
// server of the model: what it allocates, accepts and refuses.

import { RandomStreams } from '../../engine/random.ts';
import { clusterIpAt, clusterIpBands, dnsClusterIp, nodePortBands, pickOffset } from '../kube/address-bands.ts';
import { DEFAULT_NODE_PORTS, type PortRange } from '../kube/allocations.ts';
import { ApiServer } from '../kube/api-server.ts';
import { ipAddressesOf } from '../kube/ip-addresses.ts';
import { ObjectError } from '../kube/object-error.ts';
import { type Manifest, objectFrom, type Service } from '../kube/objects.ts';
import { DEFAULT_RANGES, RangesError } from '../kube/ranges.ts';
import { formatIp, type Prefix, parseAddress, parseAnyPrefix } from '../packet/ip-address.ts';
import type { Questions } from './address-case.ts';

// ---- ClusterIPs ----------------------------------------------------------------------------------------------------

export const SERVICE_IP_QUESTIONS: Questions = {
  'band-offset': ({ cidr }) => ({ offset: clusterIpBands(parseAnyPrefix(String(cidr))).staticSize }),
  bands: ({ cidr }) => ipBandsOf(parseAnyPrefix(String(cidr))),
  static: ({ cidr, clusterIP, used = [] }) => {
    const api = apiServer({ cidr });
    for (const [index, address] of namedAddresses(cidr, used).entries())
      create(api, `used-${index}`, { clusterIP: address });
    return accepts(() => create(api, 'web', { clusterIP: String(clusterIP) }));
  },
  dynamic: ({ cidr, used }) => {
    const range = parseAnyPrefix(String(cidr));
    const bands = ipBandsOf(range);
    const address = parseAddress(allocatedClusterIp(range, used)).ip;
    const { staticSize } = clusterIpBands(range);
    const isStatic = Array.from({ length: staticSize }, (_, offset) => clusterIpAt(range, offset)).includes(address);
    return { inBand: isStatic ? bands.staticBand : bands.dynamicBand };
  },
  capacity: ({ cidr }) => ({ usable: clusterIpBands(parseAnyPrefix(String(cidr))).size }),
  first: ({ cidr }) => ({
    kubernetesService: create(apiServer({ cidr }), 'kubernetes').spec.clusterIP,
    clusterDNS: text(parseAnyPrefix(String(cidr)), dnsClusterIp(parseAnyPrefix(String(cidr)))),
  }),
  invalid: ({ cidr }) => {
    apiServer({ cidr });
    return { accepted: true };
  },
  objects: ({ service, clusterIP, clusterIPs }) => {
    const addresses = ipAddressesOf(createNamed(String(service), clusterIP, clusterIPs)).map(({ labels, ...rest }) => ({
      ...rest,
      label: labels,
    }));
    return { ipAddress: addresses[0] ?? null, ipAddresses: addresses };
  },
};

function createNamed(service: string, clusterIP: unknown, clusterIPs: unknown): Service {
  if (/external/i.test(service))
    return create(apiServer({}), 'web', { type: 'ExternalName', externalName: 'web.example' });
  const headless = /headless/i.test(service);
  const [, namespace = 'default', name = 'web'] = /^([a-z0-9-]+)\/([a-z0-9-]+)$/.exec(service) ?? [];
  const addresses = headless ? ['None'] : ((clusterIPs as string[] | undefined) ?? [clusterIP as string]);
  const api = apiServer({ cidr: '10.96.0.0/12', second: 'fd00:10:96::/112' });
  const spec = { ports: [{ port: 80 }], clusterIP: addresses[0], clusterIPs: addresses };
  const ipFamilyPolicy = addresses.length > 1 ? 'RequireDualStack' : 'SingleStack';
  return api.create(objectFrom('Service', { metadata: { namespace, name }, spec: { ...spec, ipFamilyPolicy } }));
}

/** `used` is a list, "none", "whole upper band" or "everything". */
function allocatedClusterIp(range: Prefix, used: unknown): string {
  const bands = clusterIpBands(range);
  const takenFrom = used === 'whole upper band' ? bands.staticSize : used === 'everything' ? 0 : bands.size;
  if (bands.size - takenFrom <= MOST_SERVICES) {
    const api = apiServer({ cidr: `${text(range, range.net)}/${range.length}` });
    for (let offset = takenFrom; offset < bands.size; offset++)
      create(api, `used-${offset}`, { clusterIP: text(range, clusterIpAt(range, offset)) });
    return create(api, 'web').spec.clusterIP as string;
  }
  // More Services than are worth making: what the API server asks, asked without it.
  const offset = pickOffset(
    bands,
    () => 0,
    (candidate) => candidate >= takenFrom,
  );
  if (offset === undefined) throw new RangeError('range is full');
  return text(range, clusterIpAt(range, offset));
}

const MOST_SERVICES = 5_000;

function namedAddresses(cidr: unknown, used: unknown): string[] {
  if (Array.isArray(used)) return used.map(String);
  if (typeof used === 'string' && /[.:]/.test(used)) return [used];
  const range = parseAnyPrefix(String(cidr));
  const { size, staticSize } = clusterIpBands(range);
  const from = used === 'whole upper band' ? staticSize : used === 'everything' ? 0 : size;
  return Array.from({ length: size - from }, (_, index) => text(range, clusterIpAt(range, from + index)));
}

function ipBandsOf(range: Prefix) {
  const { size, staticSize } = clusterIpBands(range);
  const at = (offset: number) => text(range, clusterIpAt(range, offset));
  return {
    staticBand: staticSize === 0 ? null : [at(0), at(staticSize - 1)],
    dynamicBand: size <= staticSize ? null : [at(staticSize), at(size - 1)],
  };
}

const text = (range: Prefix, ip: Prefix['net']): string => formatIp(ip, range.family);

// ---- node ports ----------------------------------------------------------------------------------------------------

export const NODE_PORT_QUESTIONS: Questions = {
  'band-offset': ({ size }) => ({ offset: nodePortBands(Number(size)).staticSize }),
  defaults: () => {
    const { first, last } = DEFAULT_NODE_PORTS;
    return { range: `${first}-${last}`, size: last - first + 1, ...portBandsOf(DEFAULT_NODE_PORTS) };
  },
  bands: ({ range }) => portBandsOf(portRange(range)),
  static: ({ nodePort, ports, used = [], range, type = 'NodePort' }) => {
    const api = apiServer({ nodePorts: range });
    for (const port of [used].flat() as number[])
      create(api, `used-${port}`, nodePortService([{ port: 80, nodePort: port }]));
    const wanted = (ports as Ports | undefined) ?? [{ port: 80, nodePort: Number(nodePort) }];
    return accepts(() => create(api, 'web', { type: type as Spec['type'], ports: wanted }));
  },
  dynamic: ({ used, range, type = 'NodePort', allocateLoadBalancerNodePorts }) => {
    const nodePorts = portRange(range);
    const { first, last } = nodePorts;
    const offset = nodePortBands(last - first + 1).staticSize;
    const takenFrom = used === 'whole upper band' ? first + offset : used === 'everything' ? first : last + 1;
    const api = apiServer({ nodePorts: range });
    for (let port = takenFrom; port <= last; port++)
      create(api, `used-${port}`, nodePortService([{ port: 80, nodePort: port }]));
    const spec = { type, allocateLoadBalancerNodePorts } as Partial<Spec>;
    const given = create(api, 'web', spec).spec.ports[0]?.nodePort;
    const { staticBand, dynamicBand } = portBandsOf(nodePorts);
    if (given === undefined) return { inBand: null, nodePort: null };
    return { inBand: given < first + offset ? staticBand : dynamicBand };
  },
  release: ({ op }) => {
    const asked = WAYS_TO_RELEASE.filter(({ named }) => named.test(String(op)));
    return { released: asked.length > 0 && asked.every(({ act }) => isReleasedBy(act)) };
  },
  'health-check': ({ type, externalTrafficPolicy, healthCheckNodePort }) => {
    const spec = { type, externalTrafficPolicy, healthCheckNodePort } as Partial<Spec>;
    const port = create(apiServer({}), 'web', spec).spec.healthCheckNodePort;
    const { first, last } = DEFAULT_NODE_PORTS;
    if (port === undefined) return { healthCheckNodePort: null };
    return { healthCheckNodePort: port >= first && port <= last ? 'from the same range' : port };
  },
};

/** What an operation of the file's words does to a Service with node port 30010. */
const WAYS_TO_RELEASE: readonly { named: RegExp; act: (api: ApiServer, service: Service) => void }[] = [
  { named: /delete/, act: (api) => api.remove('Service', 'default/web') },
  ...(['ClusterIP', 'ExternalName'] as const).map((type) => ({
    named: new RegExp(type),
    act: (api: ApiServer, service: Service) => {
      const externalName = type === 'ExternalName' ? 'web.example' : undefined;
      api.update({ ...service, spec: { ...service.spec, type, externalName } });
    },
  })),
  {
    named: /(remove|change|drop).*port/i,
    act: (api, service) => {
      const ports = service.spec.ports.map((port) => ({ ...port, nodePort: 30_011 }));
      api.update({ ...service, spec: { ...service.spec, ports } });
    },
  },
];

function isReleasedBy(act: (api: ApiServer, service: Service) => void): boolean {
  const api = apiServer({});
  const asked = nodePortService([{ port: 80, nodePort: 30_010 }]);
  act(api, create(api, 'web', asked));
  return accepts(() => create(api, 'next', asked)).accepted;
}

function portBandsOf({ first, last }: PortRange) {
  const { size, staticSize } = nodePortBands(last - first + 1);
  return {
    staticBand: staticSize === 0 ? null : [first, first + staticSize - 1],
    dynamicBand: size <= staticSize ? null : [first + staticSize, last],
  };
}

function portRange(range: unknown): PortRange {
  if (typeof range !== 'string') return DEFAULT_NODE_PORTS;
  const [first = Number.NaN, last = Number.NaN] = range.split('-').map(Number);
  return { first, last };
}

// ---- both ----------------------------------------------------------------------------------------------------------

type Spec = NonNullable<Manifest<'Service'>['spec']>;
type Ports = NonNullable<Spec['ports']>;

function apiServer({ cidr, second, nodePorts }: { cidr?: unknown; second?: string; nodePorts?: unknown }): ApiServer {
  const service = cidr === undefined ? DEFAULT_RANGES.service : parseAnyPrefix(String(cidr));
  const secondaryService = second === undefined ? undefined : parseAnyPrefix(second);
  // Cases may take the range that pods or nodes have by default: then those move.
  const ranges = { ...DEFAULT_RANGES, service, secondaryService };
  const options = { random: new RandomStreams('conformance').stream('api-server'), nodePorts: portRange(nodePorts) };
  try {
    return new ApiServer({ ...options, ranges });
  } catch (error) {
    if (!(error instanceof RangesError) || !error.message.includes('overlaps')) throw error;
    const [pod, node] = [parseAnyPrefix('100.64.0.0/16'), parseAnyPrefix('100.65.0.0/16')];
    return new ApiServer({ ...options, ranges: { ...ranges, pod, node } });
  }
}

/** Ports of several entries need names. */
function create(api: ApiServer, name: string, spec: Partial<Spec> = {}): Service {
  const { ports = [{ port: 80 }] } = spec;
  const named = ports.length === 1 ? ports : ports.map((port, index) => ({ name: `port-${index}`, ...port }));
  return api.create(objectFrom('Service', { metadata: { name }, spec: { ...spec, ports: named } }));
}

const nodePortService = (ports: Ports): Partial<Spec> => ({ type: 'NodePort', ports });

function accepts(action: () => unknown): { accepted: boolean; error?: string } {
  try {
    action();
    return { accepted: true };
  } catch (error) {
    if (error instanceof ObjectError || error instanceof RangeError) return { accepted: false, error: error.message };
    throw error;
  }
}

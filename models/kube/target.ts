// What somebody means by `web:80`, `shop/web:http`, `default/client`, `node-1:30080`, `10.96.0.10:53` or
// `[fd00:10:96::a]:53`: an address to send to.
//
// Names are looked up in the API server, as DNS would answer: a Service is its ClusterIP, a headless one its first ready
// endpoint, a pod or a node its own address. Where there are two, it is that of the family asked for, or else of the
// cluster's first.

import { type Ip, type IpFamily, isIpv4, isIpv6, parseAddress } from '../packet/ip-address.ts';
import type { ApiServer } from './api-server.ts';
import {
  clusterIpsOf,
  internalIpsOf,
  isHeadless,
  isOfFamily,
  keyOf,
  type Node,
  type Pod,
  podIpsOf,
  type Service,
  type ServicePort,
} from './objects.ts';
import { familiesOf } from './ranges.ts';

export interface Target {
  /** Default: IPv4. */
  readonly family?: IpFamily;
  readonly ip: Ip;
  readonly port: number;
}

/** Nothing of that name, or no such port. The message names what there is. */
export class TargetError extends Error {
  override readonly name = 'TargetError';
}

/** `defaultNamespace` completes a name without one; `protocol` chooses among ports of one number. */
export function resolveTarget(
  api: ApiServer,
  text: string,
  {
    defaultNamespace,
    protocol,
    family,
  }: { defaultNamespace: string; protocol: 'TCP' | 'UDP'; family?: IpFamily | undefined },
): Target {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::([^:]+))?$/.exec(text) ?? [];
  const name = bracketed ?? plain;
  if (name === undefined || (bracketed !== undefined && !isIpv6(bracketed)))
    throw new TargetError(`"${text}": expected NAME, NAMESPACE/NAME, an IPv4 or [IPv6] address, and perhaps :PORT`);
  const families = family === undefined ? familiesOf(api.ranges) : [family];
  const wanted: Wanted = { port, text, protocol, families };
  if (isIpv4(name) || isIpv6(name)) return targetAt(name, portNumber(wanted));
  const key = name.includes('/') ? name : `${defaultNamespace}/${name}`;
  const service = api.get('Service', key);
  if (service !== undefined) return ofService(api, service, wanted);
  const pod = api.get('Pod', key);
  if (pod !== undefined) return ofPod(pod, wanted);
  const node = api.get('Node', name);
  if (node !== undefined) return ofNode(node, wanted);
  throw new TargetError(`"${text}": no Service or Pod ${key}, and no Node ${name}; ${known(api)}`);
}

interface Wanted {
  readonly port: string | undefined;
  readonly text: string;
  readonly protocol: 'TCP' | 'UDP';
  /** In order of preference. */
  readonly families: readonly IpFamily[];
}

function ofService(api: ApiServer, service: Service, wanted: Wanted): Target {
  const { port, text, protocol } = wanted;
  const { ports, type, externalName } = service.spec;
  if (type === 'ExternalName')
    throw new TargetError(
      `"${text}": the Service is another name of ${externalName ?? 'nothing'}; expected an address`,
    );
  const own = ports.filter((entry) => entry.protocol === protocol);
  const found = port === undefined ? own[0] : own.find((entry) => entry.name === port || String(entry.port) === port);
  if (found === undefined)
    throw new TargetError(
      `"${text}": no such ${protocol} port; the Service has ${ports.map(describePort).join(', ') || 'none'}`,
    );
  if (isHeadless(service)) return ofFirstEndpoint(api, service, found, wanted);
  return at(clusterIpsOf(service), 'the Service', found.port, wanted);
}

function ofFirstEndpoint(api: ApiServer, service: Service, port: ServicePort, { text, families }: Wanted): Target {
  const isWanted = (address: string) => families.some((family) => isOfFamily(family)(address));
  const { namespace, name } = service.metadata;
  for (const slice of api.list('EndpointSlice')) {
    if (slice.metadata.namespace !== namespace || slice.metadata.labels['kubernetes.io/service-name'] !== name)
      continue;
    const target = slice.ports.find((entry) => entry.name === port.name && entry.protocol === port.protocol)?.port;
    const endpoint = slice.endpoints.find(({ conditions }) => conditions.ready !== false);
    const address = endpoint?.addresses[0];
    if (target !== undefined && address !== undefined && isWanted(address)) return targetAt(address, target);
  }
  throw new TargetError(`"${text}": the headless Service has no ready endpoint`);
}

function ofPod(pod: Pod, wanted: Wanted): Target {
  const { port, text, protocol } = wanted;
  const own = podIpsOf(pod);
  if (own.length === 0) throw new TargetError(`"${text}": the pod has no IP address; expected one that runs on a node`);
  const ports = pod.spec.containers
    .flatMap((container) => container.ports)
    .filter((entry) => entry.protocol === protocol);
  const found = port === undefined ? ports[0] : ports.find(({ name }) => name === port);
  if (port === undefined && found === undefined)
    throw new TargetError(`"${text}": the pod names no ${protocol} port; expected ${text}:PORT`);
  return at(own, 'the pod', found?.containerPort ?? portNumber(wanted), wanted);
}

const ofNode = (node: Node, wanted: Wanted): Target => at(internalIpsOf(node), 'the node', portNumber(wanted), wanted);

/** The one of the addresses that is of the preferred family. */
function at(addresses: readonly string[], who: string, port: number, { text, families }: Wanted): Target {
  for (const family of families) {
    const address = addresses.find(isOfFamily(family));
    if (address !== undefined) return targetAt(address, port);
  }
  const expected = families.map((family) => `IPv${family}`).join(' or ');
  throw new TargetError(`"${text}": ${who} has no ${expected} address`);
}

/** Of an address as texts have it. Throws a RangeError for what is none. */
export function targetAt(address: string, port: number): Target {
  const { family, ip } = parseAddress(address);
  return family === 4 ? { ip, port } : { family, ip, port };
}

function portNumber({ port, text }: Wanted): number {
  if (port === undefined) throw new TargetError(`"${text}": expected a port, as in ${text}:80`);
  const number = Number(port);
  if (!/^\d+$/.test(port) || number < 1 || number > 65_535)
    throw new TargetError(`"${text}": port "${port}"; expected a number from 1 to 65535`);
  return number;
}

const describePort = ({ name, port, protocol }: ServicePort): string =>
  `${name === undefined ? '' : `${name} `}${port}/${protocol}`;

function known(api: ApiServer): string {
  const names = [...api.list('Service'), ...api.list('Node'), ...api.list('Pod')].map(keyOf);
  return names.length === 0
    ? 'there is none'
    : `there are ${names.slice(0, NAMES_SHOWN).join(', ')}${names.length > NAMES_SHOWN ? ', …' : ''}`;
}

const NAMES_SHOWN = 12;

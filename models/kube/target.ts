// What somebody means by `web:80`, `shop/web:http`, `default/client`, `node-1:30080` or `10.96.0.10:53`: an address to
// send to.
//
// Names are looked up in the API server, as DNS would answer: a Service is its ClusterIP, a headless one its first ready
// endpoint, a pod or a node its own address. Of IPv6 addresses nothing is known.

import { type Ip, isIpv4, parseIp } from '../packet/ip-address.ts';
import type { ApiServer } from './api-server.ts';
import {
  addressOfNode,
  clusterIpOf,
  isHeadless,
  keyOf,
  type Node,
  type Pod,
  type Service,
  type ServicePort,
} from './objects.ts';

export interface Target {
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
  { defaultNamespace, protocol }: { defaultNamespace: string; protocol: 'TCP' | 'UDP' },
): Target {
  const [, name, port] = /^([^:]+)(?::([^:]+))?$/.exec(text) ?? [];
  if (name === undefined)
    throw new TargetError(`"${text}": expected NAME, NAMESPACE/NAME or an IPv4 address, and perhaps :PORT`);
  const wanted: Wanted = { port, text, protocol };
  if (isIpv4(name)) return { ip: parseIp(name), port: portNumber(wanted) };
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
}

function ofService(api: ApiServer, service: Service, { port, text, protocol }: Wanted): Target {
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
  if (isHeadless(service)) return ofFirstEndpoint(api, service, { port: found, text });
  const clusterIp = clusterIpOf(service);
  if (clusterIp === undefined) throw new TargetError(`"${text}": the Service has no IPv4 address`);
  return { ip: parseIp(clusterIp), port: found.port };
}

function ofFirstEndpoint(
  api: ApiServer,
  service: Service,
  { port, text }: { port: ServicePort; text: string },
): Target {
  const { namespace, name } = service.metadata;
  for (const slice of api.list('EndpointSlice')) {
    if (slice.metadata.namespace !== namespace || slice.metadata.labels['kubernetes.io/service-name'] !== name)
      continue;
    const target = slice.ports.find((entry) => entry.name === port.name && entry.protocol === port.protocol)?.port;
    const endpoint = slice.endpoints.find(({ conditions }) => conditions.ready !== false);
    const address = endpoint?.addresses[0];
    if (target !== undefined && address !== undefined && isIpv4(address)) return { ip: parseIp(address), port: target };
  }
  throw new TargetError(`"${text}": the headless Service has no ready endpoint`);
}

function ofPod({ spec, status }: Pod, wanted: Wanted): Target {
  const { port, text, protocol } = wanted;
  const { podIP } = status;
  if (podIP === undefined || !isIpv4(podIP))
    throw new TargetError(`"${text}": the pod has no IPv4 address; expected one that runs on a node`);
  const ports = spec.containers.flatMap((container) => container.ports).filter((entry) => entry.protocol === protocol);
  const found = port === undefined ? ports[0] : ports.find(({ name }) => name === port);
  if (port === undefined && found === undefined)
    throw new TargetError(`"${text}": the pod names no ${protocol} port; expected ${text}:PORT`);
  return { ip: parseIp(podIP), port: found?.containerPort ?? portNumber(wanted) };
}

function ofNode(node: Node, wanted: Wanted): Target {
  const address = addressOfNode(node);
  if (address === undefined) throw new TargetError(`"${wanted.text}": the node has no IPv4 address`);
  return { ip: parseIp(address), port: portNumber(wanted) };
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

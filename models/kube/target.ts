// What somebody means by `web:80`, `shop/web:http`, `default/client` or `10.96.0.10:53`: an address to send to.
//
// Names are looked up in the API server, as DNS would answer: a Service is its ClusterIP, a headless one its first ready
// endpoint, a pod its own address.

import { type Ip, isIpv4, parseIp } from '../packet/ip-address.ts';
import type { ApiServer } from './api-server.ts';
import { hasClusterIp, type Pod, type Service, type ServicePort } from './objects.ts';

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
  const [, name = '', port] = /^([^:]+)(?::([^:]+))?$/.exec(text) ?? [];
  if (isIpv4(name)) return { ip: parseIp(name), port: portNumber(port ?? '80', text) };
  const key = name.includes('/') ? name : `${defaultNamespace}/${name}`;
  const service = api.get('Service', key);
  if (service !== undefined) return ofService(api, service, { port, text, protocol });
  const pod = api.get('Pod', key);
  if (pod !== undefined) return ofPod(pod, { port, text, protocol });
  throw new TargetError(`"${text}": no Service or Pod ${key}; ${known(api)}`);
}

interface Wanted {
  readonly port: string | undefined;
  readonly text: string;
  readonly protocol: 'TCP' | 'UDP';
}

function ofService(api: ApiServer, service: Service, { port, text, protocol }: Wanted): Target {
  const { ports, clusterIP } = service.spec;
  const own = ports.filter((entry) => entry.protocol === protocol);
  const found = port === undefined ? own[0] : own.find((entry) => entry.name === port || String(entry.port) === port);
  if (found === undefined)
    throw new TargetError(
      `"${text}": no such ${protocol} port; the Service has ${ports.map(describePort).join(', ') || 'none'}`,
    );
  if (hasClusterIp(service)) return { ip: parseIp(clusterIP!), port: found.port };
  const { namespace, name } = service.metadata;
  for (const slice of api.list('EndpointSlice')) {
    if (slice.metadata.namespace !== namespace || slice.metadata.labels['kubernetes.io/service-name'] !== name)
      continue;
    const target = slice.ports.find((entry) => entry.name === found.name && entry.protocol === protocol)?.port;
    const endpoint = slice.endpoints.find(({ conditions }) => conditions.ready !== false);
    if (target !== undefined && endpoint !== undefined) return { ip: parseIp(endpoint.addresses[0]!), port: target };
  }
  throw new TargetError(`"${text}": the headless Service has no ready endpoint`);
}

function ofPod({ spec, status }: Pod, { port, text, protocol }: Wanted): Target {
  if (status.podIP === undefined)
    throw new TargetError(`"${text}": the pod has no address; expected one that runs on a node`);
  const ports = spec.containers.flatMap((container) => container.ports).filter((entry) => entry.protocol === protocol);
  const named = ports.find(({ name }) => name === port);
  const number = named?.containerPort ?? (port === undefined ? ports[0]?.containerPort : portNumber(port, text));
  if (number === undefined)
    throw new TargetError(`"${text}": the pod names no ${protocol} port; expected ${text}:PORT`);
  return { ip: parseIp(status.podIP), port: number };
}

function portNumber(text: string, target: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535)
    throw new TargetError(`"${target}": port "${text}"; expected a number from 1 to 65535`);
  return port;
}

const describePort = ({ name, port, protocol }: ServicePort): string =>
  `${name === undefined ? '' : `${name} `}${port}/${protocol}`;

function known(api: ApiServer): string {
  const names = [...api.list('Service'), ...api.list('Pod')].map(
    ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  );
  return names.length === 0
    ? 'there is none'
    : `there are ${names.slice(0, 12).join(', ')}${names.length > 12 ? ', …' : ''}`;
}

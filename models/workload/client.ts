// Clients: when they ask. An open-loop client asks whatever the answers do; a closed-loop one waits for its answer and
// thinks before it asks again.

import { type Duration, ms, ns } from '../../engine/time.ts';
import type { Process } from '../host/process.ts';
import { formatIp } from '../packet/ip-address.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import type { Arrivals } from './arrivals.ts';
import { asDistribution, type DurationDistribution } from './duration-distribution.ts';
import type { HttpRequest } from './http.ts';
import { Load } from './load.ts';
import {
  DEFAULT_REQUEST,
  KeptAliveRequester,
  type NamedTarget,
  NewConnectionRequester,
  type Requester,
  type RequestSettings,
  SctpRequester,
  UdpRequester,
} from './requester.ts';

export interface ClientSettings {
  /** An address, or a name that is looked up for each request (each connection, where those are kept). */
  readonly to: SocketAddress | NamedTarget;
  readonly protocol?: 'tcp' | 'udp' | 'sctp';
  /** TCP: keep connections open. SCTP: not modelled. UDP: keep the socket, so that all requests are one conntrack flow. */
  readonly keepAlive?: boolean;
  readonly requestBytes?: number;
  readonly responseBytes?: number;
  /** What requests say to a proxy of HTTP; over TCP only. */
  readonly http?: HttpRequest;
  readonly timeout?: Duration;
  /** Results go here; several clients may share one. */
  readonly load?: Load;
  /** No request begins after so many. */
  readonly requests?: number;
}

/** Starts a client whose requests begin at the given arrivals, until the run ends. */
export function openLoop(
  process: Process,
  { arrivals, ...settings }: ClientSettings & { readonly arrivals: Arrivals },
): Load {
  const load = loadOf(process, settings);
  const requester = requesterOf(process, load, settings);
  const random = process.place.random(streamName(process, settings));
  let left = settings.requests ?? Number.POSITIVE_INFINITY;
  const next = (): void => {
    if (left-- <= 0) return;
    requester.request(ignore);
    process.place.schedule(arrivals(random), next, undefined);
  };
  process.place.schedule(arrivals(random), next, undefined);
  return load;
}

/**
 * Starts `users` users, each of whom waits for an answer and thinks before asking again. With `keepAlive` each keeps a
 * connection of its own.
 */
export function closedLoop(
  process: Process,
  {
    users = 1,
    thinkTime = ms(1),
    ...settings
  }: ClientSettings & { readonly users?: number; readonly thinkTime?: Duration | DurationDistribution },
): Load {
  const load = loadOf(process, settings);
  const random = process.place.random(streamName(process, settings));
  const think = asDistribution(thinkTime);
  let left = settings.requests ?? Number.POSITIVE_INFINITY;
  for (let user = 0; user < users; user++) {
    const requester = requesterOf(process, load, settings);
    const ask = (): void => {
      if (left-- > 0) requester.request(() => process.place.schedule(think(random), ask, undefined));
    };
    // Users do not start as one: each begins within its first think time.
    process.place.schedule(ns(random.uniform() * think(random)), ask, undefined);
  }
  return load;
}

function loadOf({ place }: Process, { load = new Load() }: ClientSettings): Load {
  place.sim.measures.add(load);
  return load;
}

function requesterOf(process: Process, load: Load, settings: ClientSettings): Requester {
  const { to, requestBytes, responseBytes, timeout } = { ...DEFAULT_REQUEST, ...settings };
  const keep = settings.keepAlive ?? false;
  const { http } = settings;
  const request: RequestSettings = { to, requestBytes, responseBytes, http, timeout, keepSocket: keep };
  if (http !== undefined && (settings.protocol ?? 'tcp') !== 'tcp')
    throw new RangeError(`http over ${settings.protocol}; expected it over tcp`);
  if (settings.protocol === 'udp') return new UdpRequester(process, load, request);
  if (settings.protocol === 'sctp') {
    if (keep) throw new RangeError('keepAlive over sctp; expected it over tcp or udp');
    return new SctpRequester(process, load, request);
  }
  return keep ? new KeptAliveRequester(process, load, request) : new NewConnectionRequester(process, load, request);
}

const ignore = (): void => {};

function streamName({ name }: Process, { to, protocol = 'tcp' }: ClientSettings): string {
  const target = 'resolve' in to ? to.name : `${to.family === 6 ? formatIp(to.ip, 6) : to.ip}:${to.port}`;
  return `client/${name}/${protocol}/${target}`;
}

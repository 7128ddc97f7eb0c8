// What clients and servers of a workload say to each other.

import type { Message } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { HttpRequest, HttpResponse } from './http.ts';

export interface Request extends Message {
  readonly kind: 'request';
  /** Size of the answer that the client wants; undefined: the server's own. */
  readonly responseBytes: number | undefined;
  /** What a proxy routes by; undefined: the request is no HTTP, or nobody looks. */
  readonly http: HttpRequest | undefined;
}

export interface Response extends Message {
  readonly kind: 'response';
  /** Who answered: the name of the server's process. */
  readonly server: string;
  /** Where the request came from, as the server saw it: after NAT. */
  readonly sourceSeen: Ip;
  readonly sourceFamily: IpFamily;
  /** Of an answer to a request of HTTP. */
  readonly http?: HttpResponse | undefined;
  /** Whom the request's X-Forwarded-For named, as the server read it. */
  readonly forwardedFor?: string | undefined;
}

export const isRequest = (message: Message): message is Request => 'kind' in message && message.kind === 'request';
export const isResponse = (message: Message): message is Response => 'kind' in message && message.kind === 'response';

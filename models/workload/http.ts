// What a request or a response of HTTP says beside its size, as far as proxies look at it. Bodies are sizes only.
//
// Not modelled: TLS, trailers, content encodings, HTTP/2 frames (a stream is a message).

/** Values by name in lower case, as HTTP/2 writes it (RFC 9113 8.2.1); several values of one name are joined by commas. */
export type HttpHeaders = Readonly<Record<string, string>>;

export interface HttpRequest {
  readonly method: string;
  /** The Host header without a port, or `:authority`. */
  readonly host: string;
  /** Without the query. */
  readonly path: string;
  /** Behind the `?`, by name; of several values of one name the first. */
  readonly query: Readonly<Record<string, string>>;
  readonly headers: HttpHeaders;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: HttpHeaders;
}

export const X_FORWARDED_FOR = 'x-forwarded-for';

/** A request for `http://host/path?query`. Throws a RangeError for a text that is no such URL. */
export function httpRequest(
  url: string,
  { method = 'GET', headers = {} }: { readonly method?: string; readonly headers?: HttpHeaders } = {},
): HttpRequest {
  const parts = splitUrl(url);
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const { host = parts.host, ...others } = lower;
  return { method, host: withoutPort(host).toLowerCase(), path: parts.path, query: parts.query, headers: others };
}

export interface UrlParts {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  /** 80 if the URL has none; 443 for https. */
  readonly port: number;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
}

/** Throws a RangeError that shows what was expected. */
export function splitUrl(text: string): UrlParts {
  const [, scheme, bracketed, plain, port, path = '', query = ''] =
    /^(https?):\/\/(?:\[([^\]]+)\]|([^:/?#]+))(?::(\d{1,5}))?(\/[^?#]*)?(?:\?([^#]*))?(?:#.*)?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) throw new RangeError(`"${text}": expected a URL such as http://shop.example.com/cart`);
  return {
    host,
    port: port === undefined ? (scheme === 'https' ? 443 : 80) : Number(port),
    path: path === '' ? '/' : path,
    query: parseQuery(query),
  };
}

function parseQuery(text: string): Record<string, string> {
  const query: Record<string, string> = {};
  for (const part of text.split('&')) {
    if (part === '') continue;
    const [name, ...value] = part.split('=');
    query[name!] ??= value.join('=');
  }
  return query;
}

/** `a.example:8080` and `[2001:db8::1]:8080` without their ports. */
function withoutPort(host: string): string {
  const [, bracketed, plain] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host) ?? [];
  return bracketed ?? plain ?? host;
}

/** The headers with one more value of a name. */
export const withAddedHeader = (headers: HttpHeaders, name: string, value: string): HttpHeaders => {
  const before = headers[name];
  return { ...headers, [name]: before === undefined ? value : `${before}, ${value}` };
};

// Routes for tests: manifests in YAML without what is the same in all of them, and the name of the route of a request.

import { httpRequest } from '../../workload/http.ts';
import type { Route, RouteTable } from '../../workload/proxy/route-table.ts';
import { DEFAULT_POOL } from '../../workload/proxy/upstream.ts';
import type { ApiServer } from '../api-server.ts';
import { controlPlane } from '../control-plane.fixture.ts';
import { Backends } from './backends.ts';

const SERVICES = ['one', 'two', 'three']
  .map((name) => `{apiVersion: v1, kind: Service, metadata: {name: ${name}}, spec: {ports: [{port: 80}]}}`)
  .join('\n---\n');

/** An API server with Services `one`, `two` and `three`, and these objects. */
export function apiServerWith(...yaml: readonly string[]): ApiServer {
  const { api, apply } = controlPlane();
  apply([SERVICES, ...yaml].join('\n---\n'));
  return api;
}

export const backendsOf = (api: ApiServer): Backends => new Backends(api, DEFAULT_POOL);

/** `two`, where a request for the URL goes; `404` without a route, `500` where the backend is missing. */
export function destination(table: RouteTable, url: string, options?: Parameters<typeof httpRequest>[1]): string {
  const route = table.routeOf(httpRequest(url, options));
  return route === undefined ? '404' : destinationOf(route);
}

function destinationOf({ backends, redirect }: Route): string {
  if (redirect !== undefined) return `${redirect.statusCode}`;
  return backends
    .map(({ upstream, missing }) =>
      missing === undefined ? upstream.replace(/^default\/(.*):80$/, '$1') : `${missing}`,
    )
    .join(' or ');
}

// The shape of the kinds of the Gateway API (gateway.networking.k8s.io) that carry HTTP: what the schemas of their
// CustomResourceDefinitions say of single fields. Rules about several fields are in gateway-validation.ts.
//
// Not modelled: TLSRoute, TCPRoute, UDPRoute, policies that attach, ListenerSets, session persistence, retries.

import {
  clusterMetadata,
  ipAddress,
  labelSelector,
  listOf,
  metadata,
  objectName,
  portNumber,
  wholeNumber,
  z,
} from '../fields.ts';

export const GATEWAY_GROUP = 'gateway.networking.k8s.io';
export const GATEWAY_API = 'gateway.networking.k8s.io/v1';

const apiVersion = z.enum(['gateway.networking.k8s.io/v1', 'gateway.networking.k8s.io/v1beta1']).optional();

const HOSTNAME = 'a host name such as shop.example.com or *.example.com';
const hostname = z
  .string(HOSTNAME)
  .max(253, HOSTNAME)
  .regex(/^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, HOSTNAME);
const PRECISE = 'a host name without a star, such as shop.example.com';
const preciseHostname = hostname.refine((name) => !name.startsWith('*'), PRECISE);

const DURATION = 'a duration such as 10s or 1m30s';
/** GEP-2257, in nanoseconds. */
const duration = z
  .string(DURATION)
  .regex(/^([0-9]{1,5}(h|m|s|ms)){1,4}$/, DURATION)
  .transform(durationNs);

function durationNs(text: string): number {
  const units: Readonly<Record<string, number>> = { h: 3_600e9, m: 60e9, s: 1e9, ms: 1e6 };
  let sum = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)(ms|[hms])/g)) sum += Number(amount) * units[unit!]!;
  return sum;
}

/** A list whose length the CustomResourceDefinition limits. */
const atMost = <Item extends z.ZodType>(most: number, item: Item) =>
  listOf(item).refine((list) => list.length <= most, `at most ${most} entries`);

// ---- gateways -----------------------------------------------------------------------------------------------------

export const gatewayClass = z.object({
  apiVersion,
  kind: z.literal('GatewayClass'),
  metadata: clusterMetadata,
  spec: z.object({
    controllerName: z
      .string()
      .regex(
        /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/,
        'a name such as example.com/gateway-controller',
      ),
  }),
});

const listener = z.object({
  name: objectName,
  hostname: hostname.optional(),
  port: portNumber,
  protocol: z
    .string()
    .regex(
      /^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\/[A-Za-z0-9]+$/,
      'a protocol such as HTTP',
    ),
  tls: z
    .object({
      mode: z.enum(['Terminate', 'Passthrough']).default('Terminate'),
      certificateRefs: atMost(64, z.object({ name: z.string() })),
      options: z.record(z.string(), z.string()).default({}),
    })
    .optional(),
  allowedRoutes: z
    .object({
      namespaces: z
        .object({
          from: z.enum(['All', 'Selector', 'Same', 'None']).default('Same'),
          selector: labelSelector.optional(),
        })
        .prefault({}),
      kinds: atMost(8, z.object({ group: z.string().default(GATEWAY_GROUP), kind: z.string() })),
    })
    .prefault({}),
});

export const gateway = z.object({
  apiVersion,
  kind: z.literal('Gateway'),
  metadata,
  spec: z.object({
    gatewayClassName: objectName,
    listeners: z.array(listener).min(1, 'at least one listener').max(64, 'at most 64 listeners'),
    /** Addresses that are asked for: noted, not given. */
    addresses: atMost(16, z.object({ type: z.string().default('IPAddress'), value: z.string().default('') })),
  }),
  status: z
    .object({
      addresses: listOf(z.object({ type: z.string().default('IPAddress'), value: ipAddress.or(z.string()) })),
    })
    .prefault({}),
});

// ---- what routes have in common -------------------------------------------------------------------------------------

const parentRef = z.object({
  group: z.string().default(GATEWAY_GROUP),
  kind: z.string().default('Gateway'),
  namespace: objectName.optional(),
  name: z.string().min(1, 'a name'),
  sectionName: objectName.optional(),
  port: portNumber.optional(),
});

const HEADER_NAME = 'the name of a header, such as x-version';
const headerName = z
  .string(HEADER_NAME)
  .min(1, HEADER_NAME)
  .max(256, HEADER_NAME)
  .regex(/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/, HEADER_NAME);
const valueMatch = z.object({
  type: z.enum(['Exact', 'RegularExpression']).default('Exact'),
  name: headerName,
  value: z.string().min(1, 'a value').max(4096, 'a value of at most 4096 characters'),
});

const headerValue = z.object({ name: headerName, value: z.string().min(1, 'a value').max(4096, 'a shorter value') });
const headerModifier = z.object({
  set: atMost(16, headerValue),
  add: atMost(16, headerValue),
  remove: atMost(16, z.string()),
});

const pathModifier = z.object({
  type: z.enum(['ReplaceFullPath', 'ReplacePrefixMatch']),
  replaceFullPath: z.string().max(1024, 'a shorter path').optional(),
  replacePrefixMatch: z.string().max(1024, 'a shorter path').optional(),
});

const weight = wholeNumber(0, 1_000_000).default(1);
const backendTarget = z.object({
  /** "" is the core group, that of Service. */
  group: z.string().default(''),
  kind: z.string().default('Service'),
  name: z.string().min(1, 'a name'),
  namespace: objectName.optional(),
  port: portNumber.optional(),
});

// ---- HTTPRoute ------------------------------------------------------------------------------------------------------

const httpFilter = z.object({
  type: z.enum([
    ...(['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestMirror', 'RequestRedirect', 'URLRewrite'] as const),
    ...(['ExtensionRef', 'CORS', 'ExternalAuth'] as const),
  ]),
  requestHeaderModifier: headerModifier.optional(),
  responseHeaderModifier: headerModifier.optional(),
  requestMirror: z.object({ backendRef: backendTarget }).optional(),
  requestRedirect: z
    .object({
      scheme: z.enum(['http', 'https']).optional(),
      hostname: preciseHostname.optional(),
      path: pathModifier.optional(),
      port: portNumber.optional(),
      statusCode: z
        .union(
          [z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)],
          '301, 302, 303, 307 or 308',
        )
        .default(302),
    })
    .optional(),
  urlRewrite: z.object({ hostname: preciseHostname.optional(), path: pathModifier.optional() }).optional(),
  extensionRef: z.object({ group: z.string(), kind: z.string(), name: z.string() }).optional(),
});

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'] as const;

const httpMatch = z.object({
  path: z
    .object({
      type: z.enum(['Exact', 'PathPrefix', 'RegularExpression']).default('PathPrefix'),
      value: z.string().max(1024, 'a path of at most 1024 characters').default('/'),
    })
    .prefault({}),
  headers: atMost(16, valueMatch),
  queryParams: atMost(16, valueMatch),
  method: z.enum(METHODS).optional(),
});

const httpRule = z.object({
  name: objectName.optional(),
  matches: atMost(64, httpMatch).transform((matches) => (matches.length > 0 ? matches : [httpMatch.parse({})])),
  filters: atMost(16, httpFilter),
  backendRefs: atMost(16, backendTarget.extend({ weight, filters: atMost(16, httpFilter) })),
  timeouts: z.object({ request: duration.optional(), backendRequest: duration.optional() }).optional(),
});

export const httpRoute = z.object({
  apiVersion,
  kind: z.literal('HTTPRoute'),
  metadata,
  spec: z.object({
    parentRefs: atMost(32, parentRef),
    hostnames: atMost(16, hostname),
    rules: atMost(16, httpRule).transform((rules) => (rules.length > 0 ? rules : [httpRule.parse({})])),
  }),
});

// ---- GRPCRoute ------------------------------------------------------------------------------------------------------

const GRPC_NAME = 'a name of letters, digits, "_" and "."';
const grpcFilter = httpFilter.extend({
  type: z.enum(['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestMirror', 'ExtensionRef']),
});

const grpcRule = z.object({
  name: objectName.optional(),
  matches: atMost(
    64,
    z.object({
      method: z
        .object({
          type: z.enum(['Exact', 'RegularExpression']).default('Exact'),
          service: z.string().max(1024, GRPC_NAME).optional(),
          method: z.string().max(1024, GRPC_NAME).optional(),
        })
        .optional(),
      headers: atMost(16, valueMatch),
    }),
  ),
  filters: atMost(16, grpcFilter),
  backendRefs: atMost(16, backendTarget.extend({ weight, filters: atMost(16, grpcFilter) })),
});

export const grpcRoute = z.object({
  apiVersion,
  kind: z.literal('GRPCRoute'),
  metadata,
  spec: z.object({
    parentRefs: atMost(32, parentRef),
    hostnames: atMost(16, hostname),
    rules: atMost(16, grpcRule),
  }),
});

// ---- ReferenceGrant -------------------------------------------------------------------------------------------------

export const referenceGrant = z.object({
  apiVersion,
  kind: z.literal('ReferenceGrant'),
  metadata,
  spec: z.object({
    from: z
      .array(z.object({ group: z.string(), kind: z.string(), namespace: objectName }))
      .min(1, 'at least one entry'),
    to: z
      .array(z.object({ group: z.string(), kind: z.string(), name: z.string().optional() }))
      .min(1, 'at least one entry'),
  }),
});

// The shape of each API object as far as networking needs it, and the defaults that an API server fills in.
//
// Unknown fields are dropped without a word: `kubectl get -o yaml` prints hundreds (managedFields, probes, volumes).
// Known fields are strict, as the API server is: `port: "80"` is an error. Errors are phrases that go after "expected".
// A kind is added here, in `kinds` and in objects.ts.

import { isIpv4, isIpv6 } from '../packet/ip-address.ts';
import { egressGatewayPolicy } from './egress-schema.ts';
import {
  clusterMetadata,
  count,
  ipAddress,
  ipPrefix,
  isIpv4Prefix,
  isIpv6Prefix,
  labelSelector,
  listOf,
  metadata,
  objectName,
  optionalName,
  podCidr,
  portName,
  portNumber,
  protocol,
  strings,
  timestamp,
  wholeNumber,
  z,
} from './fields.ts';
import {
  GATEWAY_API,
  GATEWAY_GROUP,
  gateway,
  gatewayClass,
  grpcRoute,
  httpRoute,
  referenceGrant,
} from './http/gateway-schema.ts';
import { ingress, ingressClass } from './http/ingress-schema.ts';

export type Kind = keyof typeof kinds;

/** Kinds whose objects belong to no namespace. */
export const isClusterScoped = (kind: string): boolean =>
  ['Node', 'Namespace', 'IngressClass', 'GatewayClass', 'CiliumEgressGatewayPolicy'].includes(kind);

/** One thing wrong with one field: `${field}: expected ${expected}, got ${got}`. */
export interface FieldProblem {
  readonly field: string;
  readonly expected: string;
  readonly got: string;
}

type Schemas = { [K in Kind]: (typeof kinds)[K]['schema'] };
export type ParsedManifests = { [K in Kind]: z.output<Schemas[K]> };
export type ManifestInputs = { [K in Kind]: z.input<Schemas[K]> };

/** Checks a manifest of a known kind and fills in defaults; or says what is wrong with its first wrong field. */
export function parseManifest<K extends Kind>(
  kind: K,
  manifest: unknown,
): { readonly object: ParsedManifests[K] } | { readonly problem: FieldProblem } {
  const schema: z.ZodType = kinds[kind].schema;
  const result = schema.safeParse(manifest, { error: describeExpectation });
  if (result.success) return { object: result.data as ParsedManifests[K] };
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  const path = issue.path.map(String);
  return { problem: { field: formatPath(path), expected: issue.message, got: show(valueAt(manifest, path)) } };
}

/** The kind of that name in that API group and version, if Podwire models it. */
export function modelledKind(apiVersion: string, kind: string): Kind | undefined {
  return Object.hasOwn(kinds, kind) && isVersionOf(kind as Kind, apiVersion) ? (kind as Kind) : undefined;
}

/** The Gateway API has had its kinds as v1beta1 before, with the same fields. */
function isVersionOf(kind: Kind, apiVersion: string): boolean {
  const { apiVersion: own } = kinds[kind];
  if (!own.startsWith(GATEWAY_GROUP)) return own === apiVersion;
  return apiVersion === `${GATEWAY_GROUP}/v1` || apiVersion === `${GATEWAY_GROUP}/v1beta1`;
}

/** The `apiVersion` that manifests of a kind carry; undefined for a kind that is not modelled. */
export function apiVersionOf(kind: string): string | undefined {
  return Object.hasOwn(kinds, kind) ? kinds[kind as Kind].apiVersion : undefined;
}

/** In words, what a schema without a message of its own expects. */
function describeExpectation(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return (
        { string: 'a string', object: 'a map', record: 'a map', array: 'a list', boolean: 'true or false' }[
          issue.expected as string
        ] ?? `a ${issue.expected}`
      );
    case 'invalid_value':
      return issue.values
        .map((value) => String(value))
        .join(', ')
        .replace(/, ([^,]*)$/, ' or $1');
    default:
      return 'another value';
  }
}

/** `spec.ports[0].port`; keys that hold dots or slashes are quoted. */
function formatPath(path: readonly string[]): string {
  return path
    .map((key) => (/^\d+$/.test(key) ? `[${key}]` : /^[\w-]+$/.test(key) ? `.${key}` : `["${key}"]`))
    .join('')
    .replace(/^\./, '');
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner instanceof Object ? Reflect.get(inner, key) : undefined), value);
}

/** A value in an error line: short, and on one line. */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

// ---- nodes and namespaces -----------------------------------------------------------------------------------------

const nodeAddress = z
  .object({ type: z.string(), address: z.string() })
  .refine(({ type, address }) => type !== 'InternalIP' || isIpv4(address) || isIpv6(address), {
    path: ['address'],
    message: 'an IP address',
  });

const node = z.object({
  apiVersion: z.literal('v1').optional(),
  kind: z.literal('Node'),
  metadata: clusterMetadata,
  spec: z
    .object({
      podCIDR: podCidr.optional(),
      /** Of a dual-stack node one of each family; the first is `podCIDR`. */
      podCIDRs: z.array(podCidr).min(1, 'a range').max(2, 'one range of each IP family').optional(),
      /** `kubectl cordon` sets it. */
      unschedulable: z.boolean().default(false),
      taints: z
        .array(
          z.object({
            key: z.string(),
            value: z.string().default(''),
            effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']),
          }),
        )
        .default([]),
    })
    .prefault({}),
  status: z
    .object({
      addresses: z.array(nodeAddress).default([]),
      allocatable: z
        .object({
          pods: z.union([z.string(), z.number()]).optional(),
          cpu: z.union([z.string(), z.number()]).optional(),
        })
        .prefault({}),
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).optional(),
    })
    .prefault({}),
});

const namespace = z.object({
  apiVersion: z.literal('v1').optional(),
  kind: z.literal('Namespace'),
  metadata: clusterMetadata,
});

// ---- pods and what makes them -------------------------------------------------------------------------------------

const containerPort = z.object({
  name: portName.optional(),
  containerPort: portNumber,
  protocol: protocol.default('TCP'),
  hostPort: portNumber.optional(),
  hostIP: ipAddress.optional(),
});

const seconds = z.int('a whole number of seconds').min(0, 'a whole number of seconds');
const atLeastOne = z.int('a number from 1 up').min(1, 'a number from 1 up');

const container = z.object({
  name: z.string(),
  image: z.string().optional(),
  ports: z.array(containerPort).default([]),
  readinessProbe: z
    .object({
      initialDelaySeconds: seconds.default(0),
      periodSeconds: atLeastOne.default(10),
      successThreshold: atLeastOne.default(1),
    })
    .optional(),
  lifecycle: z
    .object({
      preStop: z
        .object({
          sleep: z.object({ seconds }).optional(),
          exec: z.object({ command: z.array(z.string()).default([]) }).optional(),
        })
        .optional(),
    })
    .optional(),
});

const podSpec = z
  .object({
    nodeName: objectName.optional(),
    nodeSelector: strings.default({}),
    tolerations: z
      .array(
        z.object({
          key: z.string().optional(),
          operator: z.enum(['Equal', 'Exists']).default('Equal'),
          value: z.string().default(''),
          effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
          /** How long the pod may stay where the taint is; absent: for ever. */
          tolerationSeconds: z.int().optional(),
        }),
      )
      .default([]),
    hostNetwork: z.boolean().default(false),
    hostname: z.string().optional(),
    subdomain: z.string().optional(),
    /** Absent: ClusterFirst. */
    dnsPolicy: z.enum(['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']).optional(),
    dnsConfig: z
      .object({
        nameservers: z.array(ipAddress).max(3, 'at most 3 name servers').default([]),
        searches: z.array(z.string()).max(32, 'at most 32 domains').default([]),
        options: z
          .array(z.object({ name: z.string(), value: z.string('a string (a number needs quotes)').optional() }))
          .default([]),
      })
      .optional(),
    hostAliases: z.array(z.object({ ip: ipAddress, hostnames: z.array(z.string()).default([]) })).optional(),
    terminationGracePeriodSeconds: seconds.default(30),
    containers: z.array(container).min(1, 'at least one container'),
    /** Those that restart (`restartPolicy: Always`) are sidecars: their ports count. */
    initContainers: z.array(container.extend({ restartPolicy: z.string().optional() })).default([]),
    /** Not modelled, kept to say so. */
    affinity: z.unknown().optional(),
    topologySpreadConstraints: z.unknown().optional(),
  })
  .refine(({ dnsPolicy, dnsConfig }) => dnsPolicy !== 'None' || (dnsConfig?.nameservers.length ?? 0) > 0, {
    path: ['dnsConfig', 'nameservers'],
    message: 'a name server, as dnsPolicy is None',
  });

const pod = z.object({
  apiVersion: z.literal('v1').optional(),
  kind: z.literal('Pod'),
  metadata,
  spec: podSpec,
  status: z
    .object({
      phase: z.enum(['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown']).optional(),
      podIP: ipAddress.optional(),
      podIPs: z.array(z.object({ ip: ipAddress })).optional(),
      hostIP: ipAddress.optional(),
      conditions: z.array(z.object({ type: z.string(), status: z.string(), lastTransitionTime: timestamp })).optional(),
    })
    .prefault({}),
});

const podTemplate = z.object({
  metadata: z.object({ labels: strings.default({}), annotations: strings.default({}) }).prefault({}),
  spec: podSpec,
});

const workloadSpec = z.object({
  selector: labelSelector,
  template: podTemplate,
});

const replicatedSpec = workloadSpec.extend({ replicas: count.default(1) });

const COUNT_OR_SHARE = 'a number of pods, or a share such as "25%"';
const countOrShare = z.union([count, z.string().regex(/^\d{1,9}%$/, COUNT_OR_SHARE)], COUNT_OR_SHARE);

const deployment = z.object({
  apiVersion: z.literal('apps/v1').optional(),
  kind: z.literal('Deployment'),
  metadata,
  spec: replicatedSpec
    .extend({
      minReadySeconds: count.default(0),
      /** Only what the API server makes of it: nothing is done when it is over. */
      progressDeadlineSeconds: count.default(600),
      strategy: z
        .object({
          type: z.enum(['RollingUpdate', 'Recreate']).default('RollingUpdate'),
          rollingUpdate: z
            .object({ maxSurge: countOrShare.default('25%'), maxUnavailable: countOrShare.default('25%') })
            .prefault({})
            .refine(({ maxSurge, maxUnavailable }) => !isNothing(maxSurge) || !isNothing(maxUnavailable), {
              path: ['maxUnavailable'],
              message: 'more than 0, as maxSurge is 0',
            }),
        })
        .prefault({}),
    })
    .superRefine(templateIsSelected)
    .refine(({ minReadySeconds, progressDeadlineSeconds }) => minReadySeconds < progressDeadlineSeconds, {
      path: ['progressDeadlineSeconds'],
      message: 'more than minReadySeconds',
    }),
});

const isNothing = (given: number | string): boolean => given === 0 || given === '0%';

const replicaSet = z.object({
  apiVersion: z.literal('apps/v1').optional(),
  kind: z.literal('ReplicaSet'),
  metadata,
  spec: replicatedSpec.extend({ minReadySeconds: count.default(0) }).superRefine(templateIsSelected),
});

const statefulSet = z.object({
  apiVersion: z.literal('apps/v1').optional(),
  kind: z.literal('StatefulSet'),
  metadata,
  spec: replicatedSpec
    .extend({
      serviceName: z.string().default(''),
      minReadySeconds: count.default(0),
      podManagementPolicy: z.enum(['OrderedReady', 'Parallel']).default('OrderedReady'),
      updateStrategy: z
        .object({
          type: z.enum(['RollingUpdate', 'OnDelete']).default('RollingUpdate'),
          rollingUpdate: z.object({ partition: count.default(0) }).prefault({}),
        })
        .prefault({}),
    })
    .superRefine(templateIsSelected),
});

const daemonSet = z.object({
  apiVersion: z.literal('apps/v1').optional(),
  kind: z.literal('DaemonSet'),
  metadata,
  spec: workloadSpec
    .extend({
      minReadySeconds: count.default(0),
      updateStrategy: z
        .object({
          type: z.enum(['RollingUpdate', 'OnDelete']).default('RollingUpdate'),
          rollingUpdate: z
            .object({
              maxUnavailable: countOrShare
                .default(1)
                .refine((given) => !isNothing(given), 'more than 0, as surges of a DaemonSet are not modelled'),
              maxSurge: countOrShare.default(0).refine(isNothing, '0, as surges of a DaemonSet are not modelled'),
            })
            .prefault({}),
        })
        .prefault({}),
    })
    .superRefine(templateIsSelected),
});

function templateIsSelected(spec: z.output<typeof workloadSpec>, context: z.core.$RefinementCtx): void {
  const { labels } = spec.template.metadata;
  const path = ['template', 'metadata', 'labels'];
  if (Object.entries(spec.selector.matchLabels).some(([key, value]) => labels[key] !== value)) {
    context.addIssue({ code: 'custom', path, message: 'labels that spec.selector matches' });
  }
}

// ---- services and endpoints ---------------------------------------------------------------------------------------

const servicePort = z
  .object({
    name: optionalName,
    protocol: protocol.default('TCP'),
    port: portNumber,
    targetPort: z
      .union([portNumber, portName], 'a port number from 1 to 65535 or the name of a container port')
      .optional(),
    /** 0 is "none given". */
    nodePort: wholeNumber(0, 65_535)
      .transform((given) => (given === 0 ? undefined : given))
      .optional(),
    appProtocol: z.string().optional(),
  })
  .transform((given) => ({ ...given, targetPort: given.targetPort ?? given.port }));

const clusterIp = z
  .string('an IP address or None')
  .refine((text) => text === '' || text === 'None' || isIpv4(text) || isIpv6(text), 'an IP address or None');

const emptyIsAbsent = <Item>(given: Item[]): Item[] | undefined => (given.length === 0 ? undefined : given);

const serviceSpec = z.object({
  type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']).default('ClusterIP'),
  selector: strings.default({}),
  ports: z.array(servicePort).default([]),
  /** Absent until the API server allocates one; `None` makes the Service headless. */
  clusterIP: clusterIp.transform((given) => (given === '' ? undefined : given)).optional(),
  clusterIPs: z.array(clusterIp).transform(emptyIsAbsent).optional(),
  /** Absent until the API server derives them from the addresses, the policy and its own ranges. */
  ipFamilies: z
    .array(z.enum(['IPv4', 'IPv6']))
    .transform(emptyIsAbsent)
    .optional(),
  ipFamilyPolicy: z.enum(['SingleStack', 'PreferDualStack', 'RequireDualStack']).optional(),
  sessionAffinity: z.enum(['None', 'ClientIP']).default('None'),
  sessionAffinityConfig: z
    .object({ clientIP: z.object({ timeoutSeconds: wholeNumber(1, 86_400).default(10_800) }).prefault({}) })
    .optional(),
  internalTrafficPolicy: z.enum(['Cluster', 'Local']).default('Cluster'),
  /** Absent, unless the Service is reached from outside: then the API server says Cluster. */
  externalTrafficPolicy: z.enum(['Cluster', 'Local']).optional(),
  externalIPs: z.array(ipAddress).default([]),
  externalName: z.string().optional(),
  publishNotReadyAddresses: z.boolean().default(false),
  loadBalancerSourceRanges: z.array(ipPrefix).default([]),
  /** Absent, unless the type is LoadBalancer: then the API server says true. */
  allocateLoadBalancerNodePorts: z.boolean().optional(),
  loadBalancerClass: z.string().optional(),
  /** 0 is "none given", as the API prints it. */
  healthCheckNodePort: wholeNumber(0, 65_535)
    .transform((given) => (given === 0 ? undefined : given))
    .optional(),
  trafficDistribution: z.enum(['PreferClose', 'PreferSameZone', 'PreferSameNode']).optional(),
});

const service = z.object({
  apiVersion: z.literal('v1').optional(),
  kind: z.literal('Service'),
  metadata,
  spec: serviceSpec.superRefine(portsAreDistinct).transform(withAffinityTimeout),
  status: z
    .object({
      loadBalancer: z
        .object({
          ingress: z
            .array(
              z
                .object({
                  ip: ipAddress.optional(),
                  hostname: z.string().optional(),
                  ipMode: z.enum(['VIP', 'Proxy']).optional(),
                })
                .refine(({ ip, ipMode }) => ip !== undefined || ipMode === undefined, {
                  path: ['ipMode'],
                  message: 'none, as there is no ip',
                })
                .transform((given) => (given.ip === undefined ? given : { ...given, ipMode: given.ipMode ?? 'VIP' })),
            )
            .default([]),
        })
        .prefault({}),
    })
    .prefault({}),
});

function portsAreDistinct(spec: z.output<typeof serviceSpec>, context: z.core.$RefinementCtx): void {
  const { ports, type, clusterIP } = spec;
  const complain = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
  if (ports.length === 0 && type !== 'ExternalName' && clusterIP !== 'None') complain(['ports'], 'at least one port');
  for (const [index, { name, port, protocol }] of ports.entries()) {
    const before = ports.slice(0, index);
    if (ports.length > 1 && name === undefined)
      complain(['ports', index, 'name'], 'a name, as there are several ports');
    if (before.some((other) => other.name === name))
      complain(['ports', index, 'name'], 'a name that no other port has');
    if (before.some((other) => other.port === port && other.protocol === protocol)) {
      complain(['ports', index, 'port'], `a ${protocol} port that no other entry has`);
    }
  }
}

function withAffinityTimeout(spec: z.output<typeof serviceSpec>): z.output<typeof serviceSpec> {
  if (spec.sessionAffinity === 'None') return spec;
  return { ...spec, sessionAffinityConfig: spec.sessionAffinityConfig ?? { clientIP: { timeoutSeconds: 10_800 } } };
}

const targetRef = z.object({
  kind: z.string().optional(),
  namespace: z.string().optional(),
  name: z.string().optional(),
  uid: z.string().optional(),
});

const endpointPort = z.object({
  name: optionalName,
  protocol: protocol.default('TCP'),
  /** Absent: every port. */
  port: portNumber.optional(),
  appProtocol: z.string().optional(),
});

const zoneOrNode = z.array(z.object({ name: z.string() })).optional();

const endpointSlice = z
  .object({
    apiVersion: z.literal('discovery.k8s.io/v1').optional(),
    kind: z.literal('EndpointSlice'),
    metadata,
    addressType: z.enum(['IPv4', 'IPv6', 'FQDN']),
    endpoints: z
      .array(
        z.object({
          addresses: z.array(z.string()).min(1, 'at least one address'),
          /** Absent conditions: ready and serving, not terminating. */
          conditions: z
            .object({
              ready: z.boolean().optional(),
              serving: z.boolean().optional(),
              terminating: z.boolean().optional(),
            })
            .default({}),
          hostname: z.string().optional(),
          nodeName: z.string().optional(),
          zone: z.string().optional(),
          hints: z.object({ forZones: zoneOrNode, forNodes: zoneOrNode }).optional(),
          targetRef: targetRef.optional(),
        }),
      )
      .default([]),
    ports: z.array(endpointPort).default([]),
  })
  .superRefine(addressesAreOfTheirType);

function addressesAreOfTheirType(
  {
    addressType,
    endpoints,
  }: { addressType: 'IPv4' | 'IPv6' | 'FQDN'; endpoints: readonly { addresses: readonly string[] }[] },
  context: z.core.$RefinementCtx,
): void {
  if (addressType === 'FQDN') return;
  const isOfType = addressType === 'IPv4' ? isIpv4 : isIpv6;
  for (const [index, { addresses }] of endpoints.entries()) {
    for (const [position, address] of addresses.entries()) {
      const path = ['endpoints', index, 'addresses', position];
      if (!isOfType(address)) context.addIssue({ code: 'custom', path, message: `an ${addressType} address` });
    }
  }
}

const endpointAddress = z.object({
  ip: ipAddress,
  hostname: z.string().optional(),
  nodeName: z.string().optional(),
  targetRef: targetRef.optional(),
});

const endpoints = z.object({
  apiVersion: z.literal('v1').optional(),
  kind: z.literal('Endpoints'),
  metadata,
  subsets: z
    .array(
      z.object({
        addresses: z.array(endpointAddress).default([]),
        notReadyAddresses: z.array(endpointAddress).default([]),
        ports: z.array(endpointPort.extend({ port: portNumber })).default([]),
      }),
    )
    .default([]),
});

// ---- network policies ---------------------------------------------------------------------------------------------

const policyCidr = z
  .string()
  .refine((text) => isIpv4Prefix(text) || isIpv6Prefix(text), 'an IP range such as 10.0.0.0/8');

const policyPorts = listOf(
  z.object({
    protocol: protocol.default('TCP'),
    /** Absent: all ports. */
    port: z.union([portNumber, portName], 'a port number from 1 to 65535 or the name of a container port').optional(),
    endPort: portNumber.optional(),
  }),
);

const policyPeers = listOf(
  z.object({
    podSelector: labelSelector.optional(),
    namespaceSelector: labelSelector.optional(),
    ipBlock: z.object({ cidr: policyCidr, except: listOf(policyCidr) }).optional(),
  }),
);

const networkPolicySpec = z.object({
  podSelector: labelSelector.prefault({}),
  policyTypes: listOf(z.enum(['Ingress', 'Egress'])),
  /** Without peers from everywhere, without ports to all of them. */
  ingress: listOf(z.object({ from: policyPeers, ports: policyPorts })),
  egress: listOf(z.object({ to: policyPeers, ports: policyPorts })),
});

const networkPolicy = z.object({
  apiVersion: z.literal('networking.k8s.io/v1').optional(),
  kind: z.literal('NetworkPolicy'),
  metadata,
  spec: networkPolicySpec.transform(withPolicyTypes).prefault({}),
});

/** SetDefaults_NetworkPolicy: a policy that does not say is about ingress, and about egress if it has rules for it. */
function withPolicyTypes(spec: z.output<typeof networkPolicySpec>): z.output<typeof networkPolicySpec> {
  if (spec.policyTypes.length > 0) return spec;
  return { ...spec, policyTypes: spec.egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress'] };
}

const kinds = {
  Node: { apiVersion: 'v1', schema: node },
  Namespace: { apiVersion: 'v1', schema: namespace },
  Pod: { apiVersion: 'v1', schema: pod },
  Deployment: { apiVersion: 'apps/v1', schema: deployment },
  ReplicaSet: { apiVersion: 'apps/v1', schema: replicaSet },
  StatefulSet: { apiVersion: 'apps/v1', schema: statefulSet },
  DaemonSet: { apiVersion: 'apps/v1', schema: daemonSet },
  Service: { apiVersion: 'v1', schema: service },
  EndpointSlice: { apiVersion: 'discovery.k8s.io/v1', schema: endpointSlice },
  Endpoints: { apiVersion: 'v1', schema: endpoints },
  NetworkPolicy: { apiVersion: 'networking.k8s.io/v1', schema: networkPolicy },
  IngressClass: { apiVersion: 'networking.k8s.io/v1', schema: ingressClass },
  Ingress: { apiVersion: 'networking.k8s.io/v1', schema: ingress },
  GatewayClass: { apiVersion: GATEWAY_API, schema: gatewayClass },
  Gateway: { apiVersion: GATEWAY_API, schema: gateway },
  HTTPRoute: { apiVersion: GATEWAY_API, schema: httpRoute },
  GRPCRoute: { apiVersion: GATEWAY_API, schema: grpcRoute },
  CiliumEgressGatewayPolicy: { apiVersion: 'cilium.io/v2', schema: egressGatewayPolicy },
  ReferenceGrant: { apiVersion: 'gateway.networking.k8s.io/v1beta1', schema: referenceGrant },
} as const;

// Recorded resolv.conf and hosts files of pods, and the names that pods go by.

import { z } from 'zod';
import { type HostsLine, podDomain, podHostname, podHosts } from '../dns/pod-hosts.ts';
import { parseResolvConf, podResolvConf, type ResolvConf } from '../dns/resolv-conf.ts';
import { endpointOf } from '../kube/endpoint-slices.ts';
import { objectFrom } from '../kube/objects.ts';
import { compareFields, compareText, type Difference } from './suite.ts';

const remarks = {
  id: z.string(),
  topic: z.string(),
  source: z.string().optional(),
  note: z.string().optional(),
};
const texts = z.array(z.string());
const resolvConf = { nameservers: texts, searches: texts, options: texts };

export const resolvConfCase = z.strictObject({
  ...remarks,
  input: z.strictObject({
    pod: z.strictObject({
      namespace: z.string(),
      dnsPolicy: z.enum(['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']).optional(),
      hostNetwork: z.boolean().optional(),
      dnsConfig: z
        .strictObject({
          nameservers: texts.optional(),
          searches: texts.optional(),
          options: z.array(z.strictObject({ name: z.string(), value: z.string().optional() })).optional(),
        })
        .optional(),
    }),
    kubelet: z.strictObject({ clusterDNS: texts, clusterDomain: z.string(), resolvConf: z.string().optional() }),
    hostResolvConf: z.strictObject(resolvConf),
  }),
  expect: z.strictObject({
    ...resolvConf,
    event: z.enum(['MissingClusterDNS', 'DNSConfigForming']).optional(),
    optionsOrderMatters: z.boolean().optional(),
  }),
});

export const resolvConfText = z.strictObject({
  ...remarks,
  input: z.strictObject({ text: z.string() }),
  expect: z.strictObject(resolvConf),
});

export const podHostsCase = z.strictObject({
  ...remarks,
  input: z.strictObject({
    pod: z.strictObject({
      name: z.string(),
      namespace: z.string(),
      hostname: z.string().optional(),
      subdomain: z.string().optional(),
      podIPs: texts.default([]),
      hostAliases: z.array(z.strictObject({ ip: z.string(), hostnames: texts })).optional(),
    }),
    clusterDomain: z.string().default('cluster.local'),
    service: z.strictObject({ name: z.string(), namespace: z.string() }).optional(),
  }),
  expect: z.strictObject({
    hostname: z.string().optional(),
    domain: z.string().optional(),
    hostsLines: texts.optional(),
    endpointHostname: z.string().nullable().optional(),
  }),
});

export function differencesOfResolvConf({ input, expect }: z.output<typeof resolvConfCase>): Difference[] {
  const { pod, kubelet, hostResolvConf } = input;
  const { namespace, ...spec } = pod;
  const { clusterDNS, clusterDomain } = kubelet;
  const { conf, event } = podResolvConf(
    { namespace, spec },
    { clusterDns: clusterDNS, clusterDomain, host: hostResolvConf },
  );
  return [
    ...confDifferences(expect, conf),
    ...compareText(expect.event ?? 'no event', event ?? 'no event', 'event of kubelet'),
  ];
}

export const differencesOfResolvConfText = ({ input, expect }: z.output<typeof resolvConfText>): Difference[] =>
  confDifferences(expect, parseResolvConf(input.text));

/** Options are a set: kubelet merges them through a map. */
const confDifferences = ({ nameservers, searches, options }: ResolvConf, got: ResolvConf): Difference[] => [
  ...compareFields({ nameservers, searches }, got),
  ...compareText(options.toSorted().join(' '), got.options.toSorted().join(' '), 'options'),
];

export function differencesOfPodHosts({ input, expect }: z.output<typeof podHostsCase>): Difference[] {
  const { clusterDomain, service, pod } = input;
  const { podIPs: podIps, ...names } = pod;
  const named = { ...names, podIps };
  const lines = podHosts(named, clusterDomain).map(lineOf);
  const endpointHostname = service === undefined ? null : endpointHostnameOf(pod, service);
  return compareFields(expect, {
    hostname: podHostname(named),
    domain: podDomain(named, clusterDomain),
    hostsLines: lines,
    endpointHostname,
  });
}

const lineOf = ({ address, names }: HostsLine): string => [address, ...names].join(' ');

/** In the slices of the Service. */
function endpointHostnameOf(
  { name, namespace, hostname, subdomain }: z.output<typeof podHostsCase>['input']['pod'],
  of: { readonly name: string; readonly namespace: string },
): string | null {
  if (namespace !== of.namespace) return null;
  const pod = objectFrom('Pod', {
    metadata: { name, namespace },
    spec: { hostname, subdomain, containers: [{ name: 'main' }] },
    status: { podIP: '10.244.0.1' },
  });
  const service = objectFrom('Service', { metadata: of, spec: { clusterIP: 'None' } });
  return endpointOf(pod, service, { zone: undefined, family: 'IPv4' })?.hostname ?? null;
}

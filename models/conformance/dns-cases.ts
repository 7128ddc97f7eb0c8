// Recorded questions to a cluster's DNS server: asked of its chain of plugins, without a network in between.

import { z } from 'zod';
import { RandomStream } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import { ClusterIndex } from '../dns/cluster-index.ts';
import { endpointLabel } from '../dns/cluster-name.ts';
import { ClusterZone } from '../dns/cluster-zone.ts';
import { sameName } from '../dns/domain-name.ts';
import { ExternalZone } from '../dns/external-zone.ts';
import { type Answer, emptyAnswer, type RecordType, type ResourceRecord, TYPE_CODES } from '../dns/message.ts';
import { formatData } from '../dns/message-text.ts';
import { NameServer } from '../dns/name-server.ts';
import { addressTypeOf } from '../dns/service-records.ts';
import type { Zone } from '../dns/zone.ts';
import { objectFrom } from '../kube/objects.ts';
import { recordedPod, recordedServiceOfAnyPorts, recordedSlice } from './recorded-objects.ts';
import { compareText, type Difference } from './suite.ts';

// ── the form of such facts ───────────────────────────────────────────────────────────────────────────────────────────

const DOMAIN_NAME = 'an absolute domain name such as cluster.local.';
const domainName = z.string(DOMAIN_NAME).regex(/\.$/, DOMAIN_NAME);
const recordType = z
  .string()
  .refine((text) => Object.hasOwn(TYPE_CODES, text) || /^TYPE\d+$/.test(text), 'the type of a record such as AAAA')
  .transform((text) => text as RecordType);

const recordedRecord = z.strictObject({ name: domainName, type: recordType, ttl: z.int().min(0), data: z.string() });
type RecordedRecord = z.output<typeof recordedRecord>;

const kindOf = (kind: string) => (manifest: unknown) => (manifest instanceof Object ? { kind, ...manifest } : manifest);

const serviceImport = z.strictObject({
  metadata: z.strictObject({ namespace: z.string(), name: z.string() }),
  spec: z.strictObject({
    type: z.enum(['ClusterSetIP', 'Headless']),
    ips: z.array(z.string()),
    ports: z.array(z.strictObject({ name: z.string().default(''), protocol: z.string(), port: z.int() })).default([]),
  }),
});

export const dnsFixture = z.strictObject({
  namespaces: z.array(z.string()).default([]),
  services: z.array(z.preprocess(kindOf('Service'), recordedServiceOfAnyPorts)).default([]),
  endpointSlices: z.array(z.preprocess(kindOf('EndpointSlice'), recordedSlice)).default([]),
  pods: z.array(z.preprocess(kindOf('Pod'), recordedPod)).default([]),
  serviceImports: z.array(serviceImport).default([]),
});
type DnsFixture = z.output<typeof dnsFixture>;

const dnsConfig = z.strictObject({
  zone: domainName,
  reverseZones: z.array(domainName).default([]),
  pods: z.enum(['disabled', 'insecure', 'verified']),
  ttl: z.int('a TTL from 0 to 3600').min(0).max(3600),
  exposedNamespaces: z.array(z.string()).default([]),
  ignoreEmptyService: z.boolean().default(false),
  endpointPodNames: z.boolean().default(false),
  synced: z.boolean().default(true),
  localIPs: z.array(z.string()).default([]),
  multiclusterZones: z.array(domainName).default([]),
  zonal: z.boolean().default(false),
  external: z
    .strictObject({
      zones: z.array(domainName).min(1),
      headless: z.boolean().default(false),
      ttl: z.int().min(0),
      apex: z.string(),
      nsAddresses: z.array(z.string()).default([]),
    })
    .optional(),
  upstream: z
    .array(z.strictObject({ name: domainName, type: recordType, answers: z.array(recordedRecord) }))
    .default([]),
});
type DnsConfig = z.output<typeof dnsConfig>;

export const dnsCase = z.strictObject({
  id: z.string(),
  topic: z.string(),
  fixture: z.string(),
  config: dnsConfig,
  query: z.strictObject({ name: domainName, type: recordType }),
  expect: z.strictObject({
    rcode: z.string(),
    answers: z.array(recordedRecord),
    authority: z.array(recordedRecord).default([]),
    additional: z.array(recordedRecord).default([]),
  }),
  source: z.string().optional(),
  note: z.string().optional(),
  optional: z.boolean().optional(),
});
type DnsCase = z.output<typeof dnsCase>;

export const endpointNameCase = z.strictObject({
  id: z.string(),
  topic: z.string(),
  input: z.strictObject({
    ip: z.string(),
    hostname: z.string().nullable(),
    podName: z.string().nullable(),
    endpointPodNames: z.boolean(),
  }),
  expect: z.string(),
  source: z.string().optional(),
  note: z.string().optional(),
});

// ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export function differencesOfCase({ config, query, expect }: DnsCase, fixture: DnsFixture): Difference[] {
  const index = indexOf(fixture);
  const server = new NameServer({
    zones: zonesOf(index, config),
    upstream: { ask: (question, done) => done(upstreamAnswer(config, question)) },
    random: new RandomStream('loadbalance'),
    now: () => START,
  });
  let got: Answer | undefined;
  server.answer(query, (answer) => {
    got = answer;
  });
  if (got === undefined) return compareText(expect.rcode, 'no answer');
  return [
    ...compareText(expect.rcode, got.rcode, 'rcode'),
    ...sectionDifferences('answers', expect.answers, got.answers),
    ...sectionDifferences('authority', expect.authority, got.authority),
    ...sectionDifferences('additional', expect.additional, got.additional),
    ...orderDifferences(got.answers),
  ];
}

function indexOf(fixture: DnsFixture): ClusterIndex {
  const index = new ClusterIndex();
  const namespaces = fixture.namespaces.map((name) => objectFrom('Namespace', { metadata: { name } }));
  for (const object of [...namespaces, ...fixture.services, ...fixture.endpointSlices, ...fixture.pods])
    index.update(object, object);
  for (const imported of fixture.serviceImports) index.import(imported);
  return index;
}

function zonesOf(index: ClusterIndex, config: DnsConfig): Zone[] {
  const namespaces = config.exposedNamespaces;
  const cluster = new ClusterZone(
    index,
    {
      domain: config.zone,
      reverseZones: config.reverseZones,
      pods: config.pods,
      ttlSeconds: config.ttl,
      namespaces,
      ignoresEmptyServices: config.ignoreEmptyService,
      usesPodNames: config.endpointPodNames,
      hasZonalNames: config.zonal,
      multiclusterZones: config.multiclusterZones,
    },
    config.localIPs,
  );
  cluster.isSynced = config.synced;
  if (config.external === undefined) return [cluster];
  const { zones, ttl, apex, headless, nsAddresses } = config.external;
  const settings = { zones, ttlSeconds: ttl, apex, headless, namespaces, nameServerAddresses: nsAddresses };
  return [cluster, new ExternalZone(index, settings)];
}

function upstreamAnswer({ upstream }: DnsConfig, { name, type }: DnsCase['query']): Answer | undefined {
  const found = upstream.find((entry) => sameName(entry.name, name) && entry.type === type);
  if (found === undefined) return undefined;
  return { ...emptyAnswer('NOERROR'), answers: found.answers.flatMap(recordFrom) };
}

/** Of the types that an upstream is recorded with. */
function recordFrom({ name, type, ttl: ttlSeconds, data }: RecordedRecord): ResourceRecord[] {
  const address = addressTypeOf(data);
  if (address !== undefined && address === type) return [{ name, ttlSeconds, type: address, address: data }];
  return type === 'CNAME' ? [{ name, ttlSeconds, type, target: data }] : [];
}

// ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────

function sectionDifferences(
  section: string,
  expected: readonly RecordedRecord[],
  got: readonly ResourceRecord[],
): Difference[] {
  const wanted = expected.map(({ name, ttl, type, data }) => `${name} ${ttl} ${type} ${data}`).sort();
  return compareText(wanted.join('; '), got.map(recordedText).sort().join('; '), section);
}

/** As facts are recorded: a text without quotes, and no serial. */
function recordedText(record: ResourceRecord): string {
  const data =
    record.type === 'TXT'
      ? record.texts.join(' ')
      : record.type === 'SOA'
        ? formatData(record).replace(` ${record.serial} `, ' * ')
        : formatData(record);
  return `${record.name} ${record.ttlSeconds} ${record.type} ${data}`;
}

/** An alias stands before what it leads to. */
function orderDifferences(records: readonly ResourceRecord[]): Difference[] {
  return records.flatMap((record, i) => {
    if (record.type !== 'CNAME' || !records.slice(0, i).some(({ name }) => sameName(name, record.target))) return [];
    return compareText(`${record.name} before ${record.target}`, 'the other way round', 'order of answers');
  });
}

export function differencesOfEndpointName({ input, expect }: z.output<typeof endpointNameCase>): Difference[] {
  const { ip, hostname, podName, endpointPodNames } = input;
  const endpoint = { address: ip, hostname: hostname ?? undefined, podName: podName ?? undefined };
  return compareText(expect, endpointLabel(endpoint, { usesPodNames: endpointPodNames }));
}

// The records of a cluster: CoreDNS's kubernetes plugin, which follows the Kubernetes DNS specification 1.1.0 and answers
// what that leaves open in its own way (plugin/kubernetes, plugin/backend_lookup.go).
//
// Not modelled: zone transfers (refused, as CoreDNS does without the transfer plugin), wildcards, noendpoints.

import { formatIp, isIpv4, isIpv6, parseAddress } from '../packet/ip-address.ts';
import type { ClusterIndex, NamedEndpoint, NamedPort, NamedService } from './cluster-index.ts';
import { addressOfLabel, type ClusterName, endpointLabel, parseClusterName } from './cluster-name.ts';
import {
  addressOfReverseName,
  isInZone,
  isReverseName,
  labelsOf,
  labelsWithin,
  sameName,
  zonePartOf,
} from './domain-name.ts';
import { emptyAnswer, type Question, type ResourceRecord } from './message.ts';
import { addressRecords, addressTypeOf, type Entry, serviceRecords, targetsOf } from './service-records.ts';
import { startOfAuthority, type Zone, type ZoneAnswer } from './zone.ts';

export interface ClusterZoneSettings {
  /** `cluster.local.` */
  readonly domain: string;
  /** Reverse zones that are answered, `in-addr.arpa.` for all of IPv4. */
  readonly reverseZones: readonly string[];
  /** Zones among those whose names nobody has go on to other zones, or upstream. */
  readonly fallthrough: readonly string[];
  /** `10-244-1-5.shop.pod.cluster.local`: none, made from the name, or only if there is such a pod. */
  readonly pods: 'disabled' | 'insecure' | 'verified';
  readonly ttlSeconds: number;
  /** Namespaces whose names are answered; empty: all. */
  readonly namespaces: readonly string[];
  /** A Service without ready endpoints has no name. */
  readonly ignoresEmptyServices: boolean;
  /** Endpoints without a hostname are named after their pods, not their addresses. */
  readonly usesPodNames: boolean;
  /** Names of endpoints of one zone (`ZONE.pin._zone.SERVICE`). */
  readonly hasZonalNames: boolean;
  /** Zones of Services of several clusters (KEP-1645). */
  readonly multiclusterZones: readonly string[];
}

/** Defaults of the plugin. */
export const DEFAULT_CLUSTER_ZONE: ClusterZoneSettings = {
  domain: 'cluster.local.',
  reverseZones: [],
  fallthrough: [],
  pods: 'disabled',
  ttlSeconds: 5,
  namespaces: [],
  ignoresEmptyServices: false,
  usesPodNames: false,
  hasZonalNames: false,
  multiclusterZones: [],
};

/** What kubeadm writes into the Corefile. */
export const KUBEADM_CLUSTER_ZONE: ClusterZoneSettings = {
  ...DEFAULT_CLUSTER_ZONE,
  reverseZones: ['in-addr.arpa.', 'ip6.arpa.'],
  fallthrough: ['in-addr.arpa.', 'ip6.arpa.'],
  pods: 'insecure',
  ttlSeconds: 30,
};

/** Entries behind a name, perhaps none (NODATA); undefined: there is no such name (NXDOMAIN). */
type Found = readonly Entry[] | undefined;

export class ClusterZone implements Zone {
  readonly settings: ClusterZoneSettings;
  /** Until the watches have brought all there is: what is not found may still come (SERVFAIL). */
  isSynced = true;
  readonly #index: ClusterIndex;
  readonly #localIps: readonly string[];

  /** `localIps`: addresses of the server itself, by which it finds the Service in front of it. */
  constructor(index: ClusterIndex, settings: Partial<ClusterZoneSettings> = {}, localIps: readonly string[] = []) {
    this.settings = { ...DEFAULT_CLUSTER_ZONE, ...settings };
    this.#index = index;
    this.#localIps = localIps;
  }

  answer(question: Question): ZoneAnswer | undefined {
    const { domain, reverseZones, fallthrough } = this.settings;
    const { name, type } = question;
    const zone = longest([domain, ...reverseZones].filter((candidate) => isInZone(name, candidate)));
    if (zone === undefined) return undefined;
    // The zone's part in the answer is spelled as the client spelled it.
    const spelled = zonePartOf(name, zone);
    if (type === 'AXFR' || type === 'IXFR') return emptyAnswer('REFUSED');
    const answer = this.#answerIn(question, spelled, zone);
    if (answer !== undefined)
      return answer.answers.length > 0 ? answer : { ...answer, ...this.#no('NOERROR', spelled) };
    if (fallthrough.some((candidate) => isInZone(name, candidate))) return undefined;
    return this.#no(this.isSynced ? 'NXDOMAIN' : 'SERVFAIL', spelled);
  }

  /** undefined: there is no such name. */
  #answerIn({ name, type }: Question, zone: string, ownZone: string): ZoneAnswer | undefined {
    const { ttlSeconds } = this.settings;
    switch (type) {
      case 'A':
      case 'AAAA':
        return this.#addresses({ name, type }, zone, []);
      case 'SRV': {
        const entries = this.#find(name, zone)?.filter(({ host }) => addressTypeOf(host) !== undefined);
        return entries && { ...this.#authoritative([]), ...serviceRecords(entries, { name, ttlSeconds }) };
      }
      case 'CNAME': {
        const entries = this.#find(name, zone);
        return entries && this.#authoritative(this.#alias(entries, name));
      }
      case 'TXT': {
        if (labelsWithin(name, ownZone).join('.') === 'dns-version') return this.#authoritative([version(name)]);
        return this.#find(name, zone) && this.#authoritative([]);
      }
      case 'PTR':
        return this.#pointers(name, zone);
      case 'SOA':
        return this.#authoritative(sameName(name, ownZone) ? [this.#soa(name)] : []);
      case 'NS':
        if (sameName(name, ownZone)) return this.#nameServers(name, zone);
        return this.#find(name, zone) && this.#authoritative([]);
      default:
        return this.#find(name, zone) && this.#authoritative([]);
    }
  }

  #authoritative(answers: readonly ResourceRecord[]): ZoneAnswer {
    return { ...emptyAnswer('NOERROR'), isAuthoritative: true, answers };
  }

  #no(rcode: 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL', zone: string): ZoneAnswer {
    return { ...this.#authoritative([]), rcode, authority: [this.#soa(zone)] };
  }

  #soa(zone: string): ResourceRecord {
    const { ttlSeconds } = this.settings;
    return {
      name: zone,
      ttlSeconds: Math.min(ttlSeconds, LONGEST_NEGATIVE_TTL_SECONDS),
      ...startOfAuthority({
        primary: `${NAME_SERVER}.${zone}`,
        mailbox: `hostmaster.${zone}`,
        serial: this.#index.serial,
        minimumSeconds: ttlSeconds,
      }),
    };
  }

  // ── addresses, and aliases on the way to them ──────────────────────────────────────────────────────────────────────

  /** Aliases in the zone are followed here, others by whoever answers for their targets. */
  #addresses(
    { name, type }: { readonly name: string; readonly type: 'A' | 'AAAA' },
    zone: string,
    before: readonly ResourceRecord[],
  ): ZoneAnswer | undefined {
    const { ttlSeconds } = this.settings;
    const entries = this.#find(name, zone);
    if (entries === undefined) return undefined;
    const own = addressRecords(entries, { name, type, ttlSeconds });
    const [alias] = this.#alias(entries, name);
    if (alias === undefined) return this.#authoritative(own);
    const target = alias.type === 'CNAME' ? alias.target : '';
    const isLoop = before.some((other) => sameName(other.name, alias.name));
    if (before.length >= LONGEST_CHAIN || isLoop) return this.#authoritative(own);
    if (!isInZone(target, zone))
      return {
        ...this.#authoritative([...own, alias]),
        chases: [{ question: { name: target, type }, section: 'answers' }],
      };
    const next = this.#addresses({ name: target, type }, zone, [...before, alias]);
    if (next === undefined || next.answers.length === 0) return this.#authoritative(own);
    return { ...next, answers: [...own, alias, ...next.answers] };
  }

  #alias(entries: readonly Entry[], name: string): ResourceRecord[] {
    const [target] = targetsOf(entries, name);
    return target === undefined ? [] : [{ name, ttlSeconds: this.settings.ttlSeconds, type: 'CNAME', target }];
  }

  // ── reverse ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #pointers(name: string, zone: string): ZoneAnswer | undefined {
    const { ttlSeconds, domain } = this.settings;
    const address = addressOfReverseName(name);
    if (address === undefined) return this.#find(name, zone) && this.#authoritative([]);
    const [service] = this.#index.servicesWithClusterIp(address).filter(({ namespace }) => this.#isExposed(namespace));
    const names =
      service !== undefined
        ? [`${service.name}.${service.namespace}.svc.${domain}`]
        : this.#index
            .endpointsWithIp(address)
            .filter(({ namespace, hostname }) => hostname !== undefined && this.#isExposed(namespace))
            .map(({ hostname, service: of, namespace }) => `${hostname}.${of}.${namespace}.svc.${domain}`);
    if (names.length === 0) return undefined;
    return this.#authoritative([...new Set(names)].map((target) => ({ name, ttlSeconds, type: 'PTR', target })));
  }

  // ── the server's own names ─────────────────────────────────────────────────────────────────────────────────────────

  #nameServers(name: string, zone: string): ZoneAnswer {
    const { ttlSeconds } = this.settings;
    const entries = this.#ownEntries(zone);
    const targets = [...new Set(entries.map((entry) => entry.name))];
    return {
      ...this.#authoritative(targets.map((target) => ({ name, ttlSeconds, type: 'NS', target }))),
      additional: entries.flatMap(({ host, name: target }) => {
        const type = addressTypeOf(host);
        return type === undefined ? [] : [{ name: target, ttlSeconds, type, address: host }];
      }),
    };
  }

  /** Services in front of the server, or else its own addresses under the name `ns.dns`. */
  #ownEntries(zone: string): Entry[] {
    const local = this.#localIps.map((text) => canonicalIp(text));
    const entries = local.flatMap((address) =>
      this.#index.endpointsWithIp(address).flatMap((endpoint): Entry[] => {
        const service = this.#index.service(endpoint.namespace, endpoint.service);
        if (service === undefined) return [];
        const name = `${service.name}.${service.namespace}.svc.${zone}`;
        if (service.clusterIps.length > 0) return service.clusterIps.map((host) => ({ host, name, port: undefined }));
        return this.#index.endpointsOf(service).map((each) => ({
          host: each.address,
          name: `${endpointLabel(each, this.settings)}.${name}`,
          port: undefined,
        }));
      }),
    );
    if (entries.length > 0) return entries;
    return local.map((host) => ({ host, name: `${NAME_SERVER}.${zone}`, port: undefined }));
  }

  // ── names of Services and pods ─────────────────────────────────────────────────────────────────────────────────────

  #find(name: string, zone: string): Found {
    const labels = labelsWithin(name, zone);
    if (labels.join('.') === NAME_SERVER) return this.#ownEntries(zone).map((entry) => ({ ...entry, name }));
    const isMulticluster = this.settings.multiclusterZones.some((candidate) => sameName(candidate, zone));
    const { hasZonalNames } = this.settings;
    const parsed = parseClusterName(labels, { isMulticluster, hasZonalNames });
    if (parsed === 'apex') return [];
    if (parsed?.namespace === undefined || isReverseName(name) || !this.#isExposed(parsed.namespace)) return undefined;
    if (parsed.kind === 'pod') return this.#findPod(parsed, zone);
    if (parsed.service === undefined) return [];
    const service = isMulticluster
      ? this.#index.serviceImport(parsed.namespace, parsed.service)
      : this.#index.service(parsed.namespace, parsed.service);
    return service && this.#findService(service, parsed, { zone, isMulticluster });
  }

  #isExposed(namespace: string): boolean {
    const { namespaces } = this.settings;
    return (namespaces.length === 0 || namespaces.includes(namespace)) && this.#index.hasNamespace(namespace);
  }

  #findPod({ namespace = '', service: label }: ClusterName, zone: string): Found {
    const { pods } = this.settings;
    if (pods === 'disabled') return undefined;
    if (label === undefined) return [];
    const text = addressOfLabel(label);
    if (!isIpv4(text) && !isIpv6(text)) return undefined;
    const host = canonicalIp(text);
    if (pods === 'verified' && !this.#index.hasPodWithIp(namespace, host)) return undefined;
    return [{ host, name: `${label}.${namespace}.pod.${zone}`, port: undefined }];
  }

  #findService(
    service: NamedService,
    wanted: ClusterName,
    { zone, isMulticluster }: { readonly zone: string; readonly isMulticluster: boolean },
  ): Found {
    const name = `${service.name}.${service.namespace}.svc.${zone}`;
    const { externalName, clusterIps } = service;
    const endpoints = this.#index
      .endpointsOf(service)
      .filter(({ cluster }) => !isMulticluster || cluster !== undefined);
    if (externalName !== undefined) {
      const isPart = wanted.endpoint ?? wanted.port ?? wanted.protocol ?? wanted.zone;
      return isPart === undefined ? [{ host: externalName, name, port: undefined }] : undefined;
    }
    const isHeadless = clusterIps.length === 0;
    if (this.settings.ignoresEmptyServices && !isHeadless && endpoints.length === 0) return undefined;
    // The address of a Service is in no zone.
    if (wanted.zone !== undefined && !isHeadless) return undefined;
    if (!isHeadless && wanted.endpoint === undefined)
      return someOf(
        portsIn(service.ports, wanted).flatMap((port) => clusterIps.map((host) => ({ host, name, port: port?.port }))),
      );
    const nameOf = (endpoint: NamedEndpoint): string =>
      [endpointLabel(endpoint, this.settings), ...(isMulticluster ? [endpoint.cluster] : []), name].join('.');
    const entries = inZone(endpoints, wanted.zone)
      .filter((endpoint) => isWanted(endpoint, wanted, endpointLabel(endpoint, this.settings)))
      .flatMap((endpoint) =>
        portsIn(endpoint.ports, wanted).map((port) => ({
          host: endpoint.address,
          name: nameOf(endpoint),
          port: port?.port,
        })),
      );
    // A zone without endpoints is a name without data: a client that insists on it can tell.
    return wanted.zone === undefined ? someOf(entries) : entries;
  }
}

/** plugin.SOA: min(MinTTL, 300). */
const LONGEST_NEGATIVE_TTL_SECONDS = 300;
/** Aliases that are followed from one name. */
const LONGEST_CHAIN = 8;
const NAME_SERVER = 'ns.dns';

/** Of the specification that is followed, under a TTL of its own (plugin/kubernetes). */
const version = (name: string): ResourceRecord => ({ name, ttlSeconds: 28_800, type: 'TXT', texts: ['1.1.0'] });

const longest = (zones: readonly string[]): string | undefined =>
  zones.reduce<string | undefined>(
    (best, zone) => (best === undefined || labelsOf(zone).length > labelsOf(best).length ? zone : best),
    undefined,
  );

const someOf = (entries: readonly Entry[]): Found => (entries.length === 0 ? undefined : entries);

function canonicalIp(text: string): string {
  const { ip, family } = parseAddress(text);
  return formatIp(ip, family);
}

/** Ports that the name asks for; one that is none for what declares no ports, unless the name asks for one. */
function portsIn(
  ports: readonly NamedPort[],
  { port, protocol }: Pick<ClusterName, 'port' | 'protocol'>,
): readonly (NamedPort | undefined)[] {
  if (port === undefined && protocol === undefined) return ports.length === 0 ? [undefined] : ports;
  return ports.filter((own) => own.name.toLowerCase() === port && own.protocol === protocol);
}

const isWanted = (endpoint: NamedEndpoint, { endpoint: label, cluster }: ClusterName, own: string): boolean =>
  label === undefined || (own.toLowerCase() === label && (cluster === undefined || endpoint.cluster === cluster));

/** Those of the zone; if it has none, and is only preferred, all. */
function inZone(endpoints: readonly NamedEndpoint[], wanted: ClusterName['zone']): readonly NamedEndpoint[] {
  if (wanted === undefined) return endpoints;
  const own = endpoints.filter(({ zone }) => zone?.toLowerCase() === wanted.name);
  return own.length > 0 || wanted.isPinned ? own : endpoints;
}

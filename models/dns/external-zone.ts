// Names for clients outside the cluster (CoreDNS's k8s_external plugin): `web.shop.example.com` is the external address of
// a Service, or, if it is headless and they are asked for, the addresses of its endpoints.

import type { ClusterIndex, NamedService } from './cluster-index.ts';
import { endpointLabel } from './cluster-name.ts';
import { addressOfReverseName, isInZone, labelsWithin, sameName, zonePartOf } from './domain-name.ts';
import { emptyAnswer, type Question, type RecordType, type ResourceRecord } from './message.ts';
import { addressRecords, addressTypeOf, type Entry, serviceRecords, targetsOf } from './service-records.ts';
import { type Chase, startOfAuthority, type Zone, type ZoneAnswer } from './zone.ts';

export interface ExternalZoneSettings {
  /** The first is the one that reverse names lead to. */
  readonly zones: readonly string[];
  readonly ttlSeconds: number;
  /** Below it stand the zone's own servers: `ns1.dns.example.com`. */
  readonly apex: string;
  /** Headless Services have names, too. */
  readonly headless: boolean;
  /** Namespaces whose names are answered; empty: all. */
  readonly namespaces: readonly string[];
  /** Of the server, seen from outside. */
  readonly nameServerAddresses: readonly string[];
}

export class ExternalZone implements Zone {
  readonly #index: ClusterIndex;
  readonly #settings: ExternalZoneSettings;

  constructor(index: ClusterIndex, settings: ExternalZoneSettings) {
    this.#index = index;
    this.#settings = settings;
  }

  answer({ name, type }: Question): ZoneAnswer | undefined {
    const zone = this.#settings.zones.find((candidate) => isInZone(name, candidate));
    if (zone === undefined) return undefined;
    if (sameName(name, zone)) return this.#apex(zonePartOf(name, zone), type);
    const labels = labelsWithin(name, zone);
    if (labels.at(-1) === this.#settings.apex) return this.#belowApex({ name, type }, labels, zone);
    const address = type === 'PTR' ? addressOfReverseName(name) : undefined;
    if (address !== undefined) return this.#pointers(name, address, zone);
    return this.#services({ name, type }, labels, zone);
  }

  #apex(zone: string, type: RecordType): ZoneAnswer {
    if (type === 'SOA') return this.#answer([this.#soa(zone)], zone);
    if (type !== 'NS') return this.#answer([], zone);
    const { ttlSeconds } = this.#settings;
    const target = this.#nameServer(zone);
    const additional = this.#ownAddresses(target);
    return { ...this.#answer([{ name: zone, ttlSeconds, type, target }], zone), additional };
  }

  #belowApex({ name, type }: Question, labels: readonly string[], zone: string): ZoneAnswer {
    if (labels.length === 1) return this.#answer([], zone);
    if (labels.length > 2 || labels[0] !== 'ns1') return { ...this.#answer([], zone), rcode: 'NXDOMAIN' };
    const own = this.#ownAddresses(name).filter((record) => record.type === type);
    return this.#answer(own, zone);
  }

  #pointers(name: string, address: string, zone: string): ZoneAnswer {
    const { ttlSeconds, zones } = this.#settings;
    const names = this.#index
      .servicesWithExternalIp(address)
      .filter(({ namespace }) => this.#isExposed(namespace))
      .map((service) => `${service.name}.${service.namespace}.${zones[0]}`);
    if (names.length === 0) return { ...this.#answer([], zone), rcode: 'NXDOMAIN' };
    return this.#answer(
      [...new Set(names)].map((target) => ({ name, ttlSeconds, type: 'PTR', target })),
      zone,
    );
  }

  #services({ name, type }: Question, labels: readonly string[], zone: string): ZoneAnswer {
    const { ttlSeconds } = this.#settings;
    const entries = this.#find(labels, zonePartOf(name, zone));
    if (entries === undefined) return { ...this.#answer([], zone), rcode: 'NXDOMAIN' };
    switch (type) {
      case 'A':
      case 'AAAA': {
        const aliases = targetsOf(entries, name);
        return {
          ...this.#answer(
            [
              ...aliases.map((target): ResourceRecord => ({ name, ttlSeconds, type: 'CNAME', target })),
              ...addressRecords(entries, { name, type, ttlSeconds }),
            ],
            zone,
          ),
          chases: aliases.map((target): Chase => ({ question: { name: target, type }, section: 'answers' })),
        };
      }
      case 'SRV': {
        const { answers, additional } = serviceRecords(entries, { name, ttlSeconds });
        const chases = targetsOf(entries, name).flatMap((target) =>
          (['A', 'AAAA'] as const).map(
            (wanted): Chase => ({ question: { name: target, type: wanted }, section: 'additional' }),
          ),
        );
        return { ...this.#answer(answers, zone), additional, chases };
      }
      default:
        return this.#answer([], zone);
    }
  }

  /** undefined: no such name. */
  #find(labels: readonly string[], zone: string): readonly Entry[] | undefined {
    const [serviceName, namespace] = [labels.at(-2), labels.at(-1)!];
    if (!this.#isExposed(namespace)) return undefined;
    if (serviceName === undefined) return [];
    const rest = labels.slice(0, -2).map((label) => label.replace(/^_/, ''));
    const service = this.#index.service(namespace, serviceName);
    if (service === undefined || rest.length > 2) return undefined;
    const [port, protocol] = rest.length === 2 ? rest : [];
    const wanted = { port, protocol, endpoint: rest.length === 1 ? rest[0] : undefined };
    const entries = this.#entriesOf(service, wanted, `${service.name}.${service.namespace}.${zone}`);
    return entries.length === 0 ? undefined : entries;
  }

  #entriesOf(
    service: NamedService,
    {
      port: portName,
      protocol,
      endpoint: label,
    }: { port: string | undefined; protocol: string | undefined; endpoint: string | undefined },
    name: string,
  ): Entry[] {
    const isWanted = (port: NamedService['ports'][number]): boolean =>
      (portName === undefined || port.name === portName) && (protocol === undefined || port.protocol === protocol);
    const { externalAddresses, clusterIps, ports } = service;
    const byEndpoint =
      this.#settings.headless &&
      externalAddresses.length === 0 &&
      (label !== undefined || (clusterIps.length === 0 && service.externalName === undefined));
    if (!byEndpoint)
      return externalAddresses.flatMap((host) => ports.filter(isWanted).map(({ port }) => ({ host, name, port })));
    return this.#index.endpointsOf(service).flatMap((endpoint) => {
      const own = endpointLabel(endpoint, { usesPodNames: false });
      if (label !== undefined && own !== label) return [];
      return endpoint.ports
        .filter(isWanted)
        .map(({ port }) => ({ host: endpoint.address, name: `${own}.${name}`, port }));
    });
  }

  #isExposed(namespace: string): boolean {
    const { namespaces } = this.#settings;
    return (namespaces.length === 0 || namespaces.includes(namespace)) && this.#index.hasNamespace(namespace);
  }

  #answer(answers: readonly ResourceRecord[], zone: string): ZoneAnswer {
    const authority = answers.length === 0 ? [this.#soa(zone)] : [];
    return { ...emptyAnswer('NOERROR'), isAuthoritative: true, answers, authority };
  }

  #ownAddresses(name: string): ResourceRecord[] {
    const { nameServerAddresses, ttlSeconds } = this.#settings;
    return nameServerAddresses.flatMap((address) => {
      const type = addressTypeOf(address);
      return type === undefined ? [] : [{ name, ttlSeconds, type, address }];
    });
  }

  #nameServer(zone: string): string {
    return `ns1.${this.#settings.apex}.${zone}`;
  }

  #soa(zone: string): ResourceRecord {
    const { ttlSeconds, apex } = this.#settings;
    return {
      name: zone,
      ttlSeconds,
      ...startOfAuthority({
        primary: this.#nameServer(zone),
        mailbox: `hostmaster.${apex}.${zone}`,
        serial: this.#index.serial,
        minimumSeconds: ttlSeconds,
      }),
    };
  }
}

import { describe, expect, test } from 'vitest';
import { inMs, ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import type { DnsChoice } from './cluster-dns.ts';
import { formatMessage } from './dns/message-text.ts';
import { formatResolvConf } from './dns/resolv-conf.ts';
import type { SentQuery } from './dns/stub-exchange.ts';
import type { Lookup, Search } from './dns/stub-resolver.ts';
import { decodeMessage } from './dns/wire-format.ts';
import { objectFrom } from './kube/objects.ts';
import { CLUSTER_IP_FAMILIES, type ClusterIpFamily } from './kube/ranges.ts';
import { formatConntrack } from './netfilter/conntrack-text.ts';
import { PROTOCOL_UDP } from './packet/frame.ts';
import { formatIp, type IpAddress } from './packet/ip-address.ts';
import { encodeFrame } from './packet/wire-bytes.ts';

interface Asked<Result> {
  readonly result: Result;
  readonly queries: readonly SentQuery[];
}

class Lab {
  readonly cluster: Cluster;

  constructor({
    ipFamily = 'ipv4',
    dns = {},
    proxy = 'iptables',
  }: { ipFamily?: ClusterIpFamily; dns?: DnsChoice; proxy?: 'iptables' | 'nftables' | 'ipvs' } = {}) {
    this.cluster = new Cluster({ seed: 'dns', ipFamily, proxy });
    this.cluster.addNodes(2);
    this.cluster.addDns(dns);
    const web = this.cluster.addDeployment({ name: 'web', replicas: 2 });
    this.cluster.addService({ name: 'web', port: 80, selects: web });
    this.cluster.addPod({ name: 'client', node: 'node-1' });
  }

  lookup(name: string, from = 'default/client', options: Parameters<Cluster['resolverOf']>[1] = {}): Asked<Lookup> {
    return this.#ask((resolver, done) => resolver.lookup(name, {}, done), from, options);
  }

  search(name: string, type: 'A' | 'SRV' | 'PTR' | 'CNAME' | 'TXT', from = 'default/client'): Asked<Search> {
    return this.#ask((resolver, done) => resolver.search(name, type, done), from, {});
  }

  #ask<Result>(
    ask: (resolver: ReturnType<Cluster['resolverOf']>, done: (result: Result) => void) => void,
    from: string,
    options: Parameters<Cluster['resolverOf']>[1],
  ): Asked<Result> {
    const queries: SentQuery[] = [];
    const resolver = this.cluster.resolverOf(this.cluster.pod(from), {
      ...options,
      onQuery: (query) => queries.push(query),
    });
    let result: Result | undefined;
    this.cluster.start();
    ask(resolver, (given) => {
      result = given;
    });
    for (let step = 0; step < 600 && result === undefined; step++) this.cluster.runFor(ms(100));
    this.cluster.assertConserved();
    return { result: result!, queries };
  }

  addressesOf(service: string): string[] {
    return [...(this.cluster.api.get('Service', service)?.spec.clusterIPs ?? [])];
  }
}

const texts = (addresses: readonly IpAddress[]): string[] => addresses.map(({ ip, family }) => formatIp(ip, family));

describe.each(CLUSTER_IP_FAMILIES)('in a cluster of %s', (ipFamily) => {
  test('a pod finds a Service by its name, through kube-proxy, at a pod of CoreDNS', () => {
    const lab = new Lab({ ipFamily });
    const { result, queries } = lab.lookup('web');
    expect(result.status).toBe('ok');
    expect(texts(result.addresses).sort()).toEqual(lab.addressesOf('default/web').sort());
    // A and AAAA at once; the first domain of the search list is the right one.
    expect(queries.map(({ question: { name, type } }) => `${type} ${name}`)).toEqual([
      'A web.default.svc.cluster.local.',
      'AAAA web.default.svc.cluster.local.',
    ]);
    const [kubeDns] = lab.addressesOf('kube-system/kube-dns');
    expect(queries.map(({ server: { ip, family } }) => formatIp(ip, family))).toEqual([kubeDns, kubeDns]);
    const received = [...lab.cluster.dns.servers.values()].map((server) => server.received);
    expect(received.reduce((a, b) => a + b)).toBe(2);
  });

  test('what is outside is asked of the upstream, once per TTL', () => {
    const lab = new Lab({
      ipFamily,
      dns: { replicas: 1, upstream: { names: { 'www.example.com': ['192.0.2.53', '2001:db8::53'] } } },
    });
    const first = lab.lookup('www.example.com.');
    expect(texts(first.result.addresses).toSorted()).toEqual(['192.0.2.53', '2001:db8::53']);
    expect(lab.cluster.dns.upstream.received).toBe(2);
    // 10 ms at the upstream, and much less on the way.
    expect(inMs(first.queries[0]!.answeredAt!) - inMs(first.queries[0]!.sentAt)).toBeCloseTo(10, 0);
    lab.lookup('www.example.com.');
    expect(lab.cluster.dns.upstream.received).toBe(2);
    lab.cluster.runFor(s(30)); // `cache 30`, although the upstream says 300
    lab.lookup('www.example.com.');
    expect(lab.cluster.dns.upstream.received).toBe(4);
  });
});

test('frames on the wire hold real DNS messages', () => {
  const lab = new Lab();
  const seen: string[] = [];
  const device = lab.cluster.pod('default/client').namespace.deviceNamed('eth0');
  device.tap = (frame, direction) => {
    if (frame.protocol !== PROTOCOL_UDP) return;
    const message = decodeMessage(encodeFrame(frame).subarray(14 + 20 + 8));
    seen.push(
      `${direction} ${formatMessage(message)
        .replace(/, id \d+/, '')
        .replaceAll('\n', '; ')}`,
    );
  };
  lab.lookup('web');
  const [ip] = lab.addressesOf('default/web');
  const name = 'web.default.svc.cluster.local.';
  expect(seen.toSorted()).toEqual([
    `in NOERROR, qr aa rd ra; question A ${name}; answer ${name} 30 IN A ${ip}`,
    expect.stringMatching(/^in NOERROR, qr aa rd ra; question AAAA .*; authority cluster\.local\. 30 IN SOA ns\.dns\./),
    `out NOERROR, rd; question A ${name}`,
    `out NOERROR, rd; question AAAA ${name}`,
  ]);
});

test('the resolv.conf of a pod', () => {
  const lab = new Lab({ dns: { hostSearches: ['corp.example'] } });
  expect(formatResolvConf(lab.cluster.dns.resolvConfOf(lab.cluster.pod('default/client')))).toBe(
    [
      'search default.svc.cluster.local svc.cluster.local cluster.local corp.example',
      'nameserver 10.96.0.10',
      'options ndots:5',
      '',
    ].join('\n'),
  );
  expect(formatResolvConf(lab.cluster.dns.resolvConfOf(lab.cluster.node('node-1').process))).toBe(
    'search corp.example\nnameserver 203.0.113.10\n',
  );
});

test('a name that does not exist is asked for in every domain, and as it is', () => {
  const { result, queries } = new Lab().lookup('nothing.anywhere');
  expect(result.status).toBe('EAI_NONAME');
  // 3 domains and the name itself, A and AAAA each.
  expect(queries).toHaveLength(8);
  expect(queries.every(({ answer }) => answer?.rcode === 'NXDOMAIN')).toBe(true);
});

test.each(['glibc', 'musl'] as const)(
  'with %s an answer that does not fit into 512 bytes is fetched over TCP',
  (libc) => {
    const lab = new Lab();
    const addresses = Array.from({ length: 60 }, (_, i) => `198.18.0.${1 + i}`);
    lab.cluster.apply([
      objectFrom('Service', { metadata: { name: 'many' }, spec: { clusterIP: 'None', ports: [{ port: 80 }] } }),
      objectFrom('EndpointSlice', {
        metadata: { name: 'many-1', labels: { 'kubernetes.io/service-name': 'many' } },
        addressType: 'IPv4',
        ports: [{ port: 80 }],
        endpoints: addresses.map((address) => ({ addresses: [address] })),
      }),
    ]);
    const { result, queries } = lab.lookup('many', 'default/client', { libc });
    expect(texts(result.addresses).toSorted()).toEqual(addresses.toSorted());
    expect(queries.map(({ protocol }) => protocol)).toContain('TCP');
    expect(queries[0]!.answer?.isTruncated).toBe(true);
  },
);

test('records of other types: SRV, PTR, CNAME, TXT', () => {
  const lab = new Lab();
  lab.cluster.apply([
    objectFrom('Service', {
      metadata: { name: 'partner' },
      spec: { type: 'ExternalName', externalName: 'www.example.com' },
    }),
  ]);
  const answers = (asked: Asked<Search>) => asked.result.answer?.answers;
  const [ip] = lab.addressesOf('default/web');
  expect(answers(lab.search('web', 'SRV'))).toMatchObject([{ port: 80, target: 'web.default.svc.cluster.local.' }]);
  expect(answers(lab.search(`${ip!.split('.').reverse().join('.')}.in-addr.arpa.`, 'PTR'))).toMatchObject([
    { target: 'web.default.svc.cluster.local.' },
  ]);
  expect(answers(lab.search('partner', 'CNAME'))).toMatchObject([{ target: 'www.example.com.' }]);
  expect(answers(lab.search('dns-version.cluster.local.', 'TXT'))).toMatchObject([{ texts: ['1.1.0'] }]);
});

describe('ends with the error of a real resolver', () => {
  test.each([
    ['glibc', 'EAI_NONAME'],
    ['musl', 'EAI_NONAME'],
  ] as const)('a name over 253 bytes, with %s', (libc, status) => {
    const name = Array.from({ length: 5 }, () => 'a'.repeat(60)).join('.');
    const { result, queries } = new Lab().lookup(name, 'default/client', { libc });
    expect([result.status, queries]).toEqual([status, []]);
  });

  test('a loop of aliases inside of the cluster: there is no data', () => {
    const lab = new Lab();
    const alias = (name: string, to: string) =>
      objectFrom('Service', {
        metadata: { name },
        spec: { type: 'ExternalName', externalName: `${to}.default.svc.cluster.local` },
      });
    lab.cluster.apply([alias('a', 'b'), alias('b', 'a')]);
    expect(lab.lookup('a.default.svc.cluster.local.').result.status).toBe('EAI_NODATA');
  });

  test('a loop of aliases outside', () => {
    const names = { 'a.example': ['b.example'], 'b.example': ['a.example'] };
    const lab = new Lab({ dns: { upstream: { names } } });
    expect(lab.lookup('a.example.').result.status).toBe('EAI_NONAME');
  });

  test('a Service without servers: kube-proxy refuses, and glibc gives up at once', () => {
    const lab = new Lab({ dns: { replicas: 0 } });
    const { result, queries } = lab.lookup('web');
    expect(result.status).toBe('EAI_AGAIN');
    // Two attempts for the first domain, A and AAAA each; then no more.
    expect(queries.map(({ failure }) => failure)).toEqual(Array.from({ length: 4 }, () => 'refused'));
  });

  test('an upstream that loses every answer: SERVFAIL after the deadline, which pods do not wait for', () => {
    const lab = new Lab({ dns: { upstream: { lossFraction: 1 } } });
    expect(lab.lookup('www.example.com.').result.status).toBe('EAI_AGAIN');
  });
});

test('a pod of CoreDNS that is to end answers until its lameduck time is over', () => {
  const lab = new Lab({ dns: { replicas: 1, server: { lameduck: s(5) } } });
  lab.lookup('web');
  const [key] = [...lab.cluster.dns.servers.keys()];
  const server = lab.cluster.dns.servers.get(key!)!;
  lab.cluster.api.delete('Pod', key!);
  lab.cluster.runFor(ms(4_900));
  expect(server.listensOn('UDP', 53)).toBe(true);
  lab.cluster.runFor(ms(200));
  expect(server.listensOn('UDP', 53)).toBe(false);
});

describe('clients that know a Service by its name', () => {
  const load = (to: string, settings: { keepAlive?: boolean; protocol?: 'udp' } = {}) => {
    const lab = new Lab();
    lab.cluster.addService({ name: 'web-udp', port: 80, protocol: 'UDP', selects: { name: 'web' } });
    const client = lab.cluster.pod('default/client');
    const seen = lab.cluster.closedLoop(client, { to, requests: 20, thinkTime: ms(1), ...settings });
    lab.cluster.runFor(s(1));
    lab.cluster.assertConserved();
    const questions = [...lab.cluster.dns.servers.values()].reduce((sum, { received }) => sum + received, 0);
    return { completed: seen.completed, lookups: seen.lookup.count, failures: [...seen.failures.keys()], questions };
  };

  test('pay for A and AAAA with each new connection', () => {
    expect(load('http://web')).toEqual({ completed: 20, lookups: 20, failures: [], questions: 40 });
  });

  test('pay once for a kept connection, or a kept socket', () => {
    expect(load('web:80', { keepAlive: true })).toMatchObject({ completed: 20, lookups: 1, questions: 2 });
    expect(load('web-udp:80', { protocol: 'udp', keepAlive: true })).toMatchObject({ completed: 20, questions: 2 });
  });

  test('pay for the search list: the first domain of three is the wrong one', () => {
    expect(load('http://web.default')).toMatchObject({ completed: 20, questions: 80 });
  });

  test('fail without an address', () => {
    expect(load('http://nobody')).toMatchObject({ completed: 0, failures: ['name not resolved'] });
  });

  test('need a port', () => {
    expect(() => load('web.shop')).toThrow('server "web.shop"; expected a name and a port');
  });
});

describe('NodeLocal DNSCache', () => {
  test.each(['iptables', 'nftables', 'ipvs'] as const)(
    'answers on the node, in %s mode, and is not tracked there',
    (proxy) => {
      const lab = new Lab({ proxy, dns: { nodeLocal: true, replicas: 1 } });
      const { result } = lab.lookup('web');
      expect(texts(result.addresses)).toEqual(lab.addressesOf('default/web'));
      const cache = lab.cluster.dns.caches.get('node-1')!;
      expect(cache.received).toBe(2);
      const { conntrack } = lab.cluster.node('node-1').machine.root.netfilter!;
      const tracked = conntrack.list().map((entry) => formatConntrack(entry, lab.cluster.sim.now));
      expect(tracked.filter((line) => line.startsWith('udp') && line.includes('dport=53'))).toEqual([]);
      expect(tracked.filter((line) => line.startsWith('tcp') && line.includes('dport=53'))).toHaveLength(2);
      // The second time nothing leaves the node.
      const [coreDns] = [...lab.cluster.dns.servers.values()];
      expect(coreDns!.received).toBe(2);
      lab.lookup('web');
      expect([cache.received, coreDns!.received]).toEqual([4, 2]);
    },
  );
});

describe('a name in spec.hostname', () => {
  function named(hostNetwork: boolean) {
    const lab = new Lab();
    const containers = [{ name: 'main' }];
    const spec = { nodeName: 'node-1', hostNetwork, hostname: 'own-name', containers };
    lab.cluster.apply([objectFrom('Pod', { metadata: { name: 'named' }, spec })]);
    const { hostname } = lab.cluster.pod('default/named');
    return { hostname, addresses: texts(lab.lookup('own-name', 'default/named').result.addresses), lab };
  }

  test('is what the pod calls itself, and in its /etc/hosts', () => {
    const { hostname, addresses, lab } = named(false);
    expect({ hostname, addresses }).toEqual({
      hostname: 'own-name',
      addresses: [formatIp(lab.cluster.pod('default/named').ip)],
    });
  });

  test("means nothing on the node's network, where name and /etc/hosts are the node's", () => {
    const { hostname, addresses } = named(true);
    expect({ hostname, addresses }).toEqual({ hostname: 'node-1', addresses: [] });
  });
});

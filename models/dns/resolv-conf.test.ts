import { describe, expect, test } from 'vitest';
import { EMPTY_RESOLV_CONF, parseResolvConf, podResolvConf, stubSettings } from './resolv-conf.ts';

const kubelet = { clusterDns: ['10.96.0.10'], clusterDomain: 'cluster.local', host: EMPTY_RESOLV_CONF };

describe('a pod gets', () => {
  test('at most 32 domains, of 2,048 characters together, none of more than 255', () => {
    const searches = Array.from({ length: 40 }, (_, i) => `d${i}.${'x'.repeat(40)}`);
    const { conf, event } = podResolvConf({ namespace: 'shop', spec: { dnsConfig: { searches } } }, kubelet);
    expect([conf.searches.length, event]).toEqual([32, 'DNSConfigForming']);
    const wide = podResolvConf(
      {
        namespace: 'shop',
        spec: { dnsConfig: { searches: Array.from({ length: 20 }, (_, i) => `d${i}.${'x'.repeat(200)}`) } },
      },
      kubelet,
    );
    expect(wide.conf.searches.join(' ').length).toBeLessThanOrEqual(2048);
    const long = podResolvConf({ namespace: 'shop', spec: { dnsConfig: { searches: ['y'.repeat(256)] } } }, kubelet);
    expect(long.conf.searches).toEqual(['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local']);
  });

  test('what an option says last', () => {
    const options = [
      { name: 'ndots', value: '2' },
      { name: 'timeout', value: '1' },
    ];
    const { conf } = podResolvConf({ namespace: 'shop', spec: { dnsConfig: { options } } }, kubelet);
    expect(conf.options.toSorted()).toEqual(['ndots:2', 'timeout:1']);
  });
});

describe('a C library takes', () => {
  const conf = parseResolvConf(
    'nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\noptions ndots:99 timeout:99 attempts:99 rotate use-vc',
  );

  test('three servers, and numbers up to its limits', () => {
    expect(stubSettings(conf, 'glibc')).toMatchObject({ ndots: 15, timeoutSeconds: 30, attempts: 5, rotates: true });
    expect(stubSettings(conf, 'musl')).toMatchObject({ ndots: 15, timeoutSeconds: 60, attempts: 10, rotates: false });
    expect(stubSettings(conf, 'musl').nameservers).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  });

  test('the local host without a server', () => {
    expect(stubSettings(EMPTY_RESOLV_CONF, 'musl').nameservers).toEqual(['127.0.0.1']);
  });

  test('no search list, if it is musl and the line is longer than its buffer', () => {
    const long = { ...EMPTY_RESOLV_CONF, searches: ['a', 'b'].map((label) => label.repeat(130)) };
    expect(stubSettings(long, 'musl').searches).toEqual([]);
    expect(stubSettings(long, 'glibc').searches).toHaveLength(2);
  });
});

// What `ip -6 route get` names as source on Linux 6.18.44, with these addresses added in this order.

import { expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { LoopbackDevice } from '../link/loopback.ts';
import type { NetDevice } from '../link/net-device.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { formatIp, parseIpv6, parseIpv6Prefix } from '../packet/ip-address.ts';
import { parseMac } from '../packet/mac.ts';
import { Ipv6Interface } from './ipv6-interface.ts';
import { selectSource } from './ipv6-source-address.ts';

const cpus = new CpuSet(new Simulator({ seed: 'source' }).place('node'), { count: 1, costs: FREE });
const frames = new FrameStore();
const device = (name: string, index: number, mac: string): NetDevice =>
  new LoopbackDevice({ name, mac: parseMac(mac), namespace: 'node', index, cpus, frames });

const cbr0 = withAddresses(device('cbr0', 2, '02:00:00:00:02:01'), [
  'fd00:10:244:2::1/64',
  'fd00:aa::1/64',
  'fd00:aa::2/64',
  '2001:470::5/64',
]);
const eth0 = withAddresses(device('eth0', 3, '02:00:00:00:02:02'), ['fd00:192:168::2/64']);
const bare = withAddresses(device('veth0', 4, 'ee:ee:ee:ee:ee:ee'), []);

test.each([
  ['the newest of equals', 'fd00:aa::99', cbr0, 'fd00:aa::2'],
  ['one of the outgoing device before one of the same label', '2001:470:1::1', eth0, 'fd00:192:168::2'],
  ['the longest common prefix', 'fd00:10:244:2::2', cbr0, 'fd00:10:244:2::1'],
  ['one of the same label before a longer prefix', 'fd00:10:244:1::2', bare, 'fd00:10:244:2::1'],
  ['one of the same label, not of fc00::/7', '2001:470:1::1', bare, '2001:470::5'],
  ['the link-local one for the link', 'fe80::1', eth0, 'fe80::ff:fe00:202'],
  ['the link-local one for a group of the link', 'ff02::1', cbr0, 'fe80::ff:fe00:201'],
  ['another device than one with a link-local address only', 'fd00:10:244:2::2', bare, 'fd00:10:244:2::1'],
])('takes %s', (_, dst, { device: out }, source) => {
  const candidates = [cbr0, eth0, bare].flatMap(({ addresses }) => addresses);
  expect(formatIp(selectSource(candidates, parseIpv6(dst), out) ?? parseIpv6('::'), 6)).toBe(source);
});

function withAddresses(of: NetDevice, addresses: readonly string[]): Ipv6Interface {
  const made = new Ipv6Interface(of, { hasLinkLocal: true });
  for (const text of addresses) {
    made.addAddress({ device: of, ip: parseIpv6(text.split('/')[0] ?? ''), subnet: parseIpv6Prefix(text) });
  }
  return made;
}

import { beforeEach, describe, expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { s } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { Bridge } from '../link/bridge.ts';
import { createVethPair, type VethDevice } from '../link/veth.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { Machine } from './machine.ts';
import type { NetworkNamespace } from './network-namespace.ts';

let node: NetworkNamespace;
let machine: Machine;

beforeEach(() => {
  const sim = new Simulator({ seed: 'sysctls' });
  machine = new Machine({ name: 'node-1', sim, frames: new FrameStore(), costs: FREE, forwarding: false });
  node = machine.root;
});

function addVeth(name: string): VethDevice {
  const { outside } = createVethPair({
    outside: node.device(name, machine.nextMac()),
    inside: machine.addNamespace(`pod of ${name}`).device('eth0', machine.nextMac()),
  });
  return node.add(outside);
}

const inForce = (device: VethDevice) => node.stack.settings.of(device);

describe('what holds for a device is combined from conf.all and its own', () => {
  test('rp_filter: the stricter number wins', () => {
    const veth = addVeth('veth0');
    node.sysctl('net.ipv4.conf.all.rp_filter', 1);
    expect(inForce(veth).rp_filter).toBe(1);
    node.sysctl('net.ipv4.conf.veth0.rp_filter', 2);
    expect(inForce(veth).rp_filter).toBe(2);
    node.sysctl('net.ipv4.conf.veth0.rp_filter', 0);
    expect(inForce(veth).rp_filter).toBe(1);
  });

  test.each(['route_localnet', 'accept_local', 'send_redirects'] as const)('%s: either is enough', (setting) => {
    const veth = addVeth('veth0');
    for (const [all, own, combined] of [
      [0, 0, 0],
      [0, 1, 1],
      [1, 0, 1],
      [1, 1, 1],
    ] as const) {
      node.sysctl(`net.ipv4.conf.all.${setting}`, all);
      node.sysctl(`net.ipv4.conf.veth0.${setting}`, own);
      expect(inForce(veth)[setting]).toBe(combined);
    }
  });

  test("forwarding is the device's own affair; ip_forward sets it for every device and for those to come", () => {
    const before = addVeth('veth0');
    node.sysctl('net.ipv4.ip_forward', 1);
    const later = addVeth('veth1');
    expect([inForce(before).forwarding, inForce(later).forwarding]).toEqual([1, 1]);
    node.sysctl('net.ipv4.conf.veth0.forwarding', 0);
    expect([inForce(before).forwarding, inForce(later).forwarding]).toEqual([0, 1]);
    expect(node.sysctls.read('net.ipv4.ip_forward')).toBe(1);
  });

  test('conf.default is for devices that come later', () => {
    const before = addVeth('veth0');
    node.sysctl('net.ipv4.conf.default.rp_filter', 1);
    expect([inForce(before).rp_filter, inForce(addVeth('veth1')).rp_filter]).toEqual([0, 1]);
  });
});

test('IPVS is configured by net.ipv4.vs', () => {
  expect(node.sysctls.read('net.ipv4.vs.conntrack')).toBe(0);
  node.sysctl('net.ipv4.vs.conntrack', 1);
  node.sysctl('net.ipv4.vs.conn_reuse_mode', 0);
  node.sysctl('net.ipv4.vs.expire_nodest_conn', 1);
  expect(node.netfilter?.ipvs.settings).toMatchObject({ conntrack: true, connReuseMode: 0, expireNodestConn: true });
  expect(() => node.sysctl('net.ipv4.vs.conn_reuse_mode', 2)).toThrow(RangeError);
});

test('conntrack is configured in seconds, and netfilter is there from then on', () => {
  expect(node.sysctls.read('net.netfilter.nf_conntrack_udp_timeout')).toBe(30);
  expect(node.netfilter).toBeUndefined();
  node.sysctl('net.netfilter.nf_conntrack_udp_timeout', 5);
  node.sysctl('net.netfilter.nf_conntrack_tcp_timeout_established', 86_400);
  node.sysctl('net.netfilter.nf_conntrack_tcp_be_liberal', 1);
  node.sysctl('net.netfilter.nf_conntrack_tcp_ignore_invalid_rst', 1);
  node.sysctl('net.netfilter.nf_conntrack_gre_timeout_stream', 60);
  expect(node.netfilter?.conntrack.settings).toMatchObject({ udpTimeout: s(5), greStreamTimeout: s(60) });
  expect(node.netfilter?.conntrack.settings).toMatchObject({ tcpBeLiberal: true, tcpIgnoreInvalidReset: true });
  expect(node.netfilter?.conntrack.settings.tcpTimeouts).toMatchObject({ ESTABLISHED: s(86_400), SYN_SENT: s(120) });
});

test('bridge-nf-call-iptables holds for bridges that are there and for those to come', () => {
  const first = node.add(new Bridge(node.device('cbr0', machine.nextMac())));
  node.sysctl('net.bridge.bridge-nf-call-iptables', 1);
  const second = node.add(new Bridge(node.device('cbr1', machine.nextMac())));
  expect([first.netfilter, second.netfilter]).not.toContain(undefined);
  node.sysctl('net.bridge.bridge-nf-call-iptables', 0);
  expect([first.netfilter, second.netfilter]).toEqual([undefined, undefined]);
});

describe('is refused in one line', () => {
  test.each([
    [
      'net.ipv4.no_such_thing',
      1,
      /^sysctl net.ipv4.no_such_thing in node-1; expected one of net\.bridge\..*, net\.ipv4\.ip_forward, /,
    ],
    [
      'net.ipv4.conf.eth7.rp_filter',
      1,
      /^sysctl net.ipv4.conf.eth7.rp_filter: no device eth7 in node-1; expected one of all, default, lo$/,
    ],
    ['net.ipv4.conf.all.no_such_thing', 1, /expected one of .*net\.ipv4\.conf\.DEVICE\.rp_filter/],
    ['net.ipv4.ip_default_ttl', 256, /^sysctl net.ipv4.ip_default_ttl=256; expected an integer from 1 to 255$/],
    ['net.ipv4.ip_forward', 'yes', /^sysctl net.ipv4.ip_forward=yes; expected an integer from 0 to 2147483647$/],
    ['net.netfilter.nf_conntrack_tcp_loose', 2, /expected an integer from 0 to 1$/],
  ])('%s=%s', (name, value, message) => {
    expect(() => node.sysctl(name, value)).toThrow(message);
  });
});

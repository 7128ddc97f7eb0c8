// The small networks that stages are measured in: a client `a`, nothing, a bridge or routers between, and a server `s`.
//
//   a v0 -- w0 s        a v0 -- p0 [br0 r] q0 -- w0 s        a v0 -- i0 [r0] o0 -- i0 [r1] o0 -- w0 s
//
// Frames to SINK_MAC or the address SINK_IP arrive at `s` and are dropped there, as for somebody else.

import type { Lab } from './lab.ts';

export const CLIENT_IP = '10.0.0.1';
export const SERVER_IP = '10.9.0.2';
/** An address whose owner drops what it gets. */
export const SINK_IP = '10.9.0.3';
export const SINK_MAC = '02:00:00:00:09:08';
export const SERVER_MAC = '02:00:00:00:09:09';

export interface Between {
  readonly client: string;
  readonly server: string;
}

export async function direct(lab: Lab): Promise<Between> {
  const [client, server] = [await lab.namespace(), await lab.namespace()];
  await lab.veth(
    { namespace: client, device: 'v0', ip: `${CLIENT_IP}/8` },
    { namespace: server, device: 'w0', ip: `${SERVER_IP}/8`, mac: SERVER_MAC },
  );
  return { client, server };
}

/** On one bridge; `node` has it, and the address 10.0.0.254. */
export async function bridged(
  lab: Lab,
  { callIptables }: { callIptables: boolean },
): Promise<Between & { readonly node: string }> {
  const [client, server, node] = [await lab.namespace(), await lab.namespace(), await lab.namespace()];
  const settingCalls = lab.sysctl(node, { 'net.bridge.bridge-nf-call-iptables': callIptables ? 1 : 0 });
  await (callIptables ? settingCalls : settingCalls.catch(() => undefined)); // without br_netfilter nothing is called
  await lab.ip(node, ['link add br0 type bridge forward_delay 0', 'link set br0 up', 'addr add 10.0.0.254/8 dev br0']);
  await lab.veth({ namespace: client, device: 'v0', ip: `${CLIENT_IP}/8` }, { namespace: node, device: 'p0' });
  await lab.veth(
    { namespace: server, device: 'w0', ip: `${SERVER_IP}/8`, mac: SERVER_MAC },
    { namespace: node, device: 'q0' },
  );
  await lab.ip(node, ['link set p0 master br0', 'link set q0 master br0']);
  await lab.run(node, 'bridge', ['fdb', 'add', SINK_MAC, 'dev', 'q0', 'master', 'static']);
  await lab.waitForPorts(node);
  if (!callIptables) return { client, server, node };
  // Services are reached by way of the node, as if it were the pods' default gateway.
  await lab.ip(client, ['route add 10.96.0.0/12 via 10.0.0.254']);
  return { client, server, node };
}

/** From a bridge on one node over a switch to a bridge on another one, as with host-gw. */
export async function crossing(lab: Lab): Promise<Between> {
  const [client, server, fabric] = [await lab.namespace(), await lab.namespace(), await lab.namespace()];
  await lab.ip(fabric, ['link add fab0 type bridge forward_delay 0', 'link set fab0 up']);
  await lab.sysctl(fabric, { 'net.bridge.bridge-nf-call-iptables': 0 }).catch(() => undefined);
  const ends = [
    { pod: client, device: 'v0', ip: CLIENT_IP, bridge: '10.0.0.254', node: 1 },
    { pod: server, device: 'w0', ip: SERVER_IP, bridge: '10.9.0.254', node: 2 },
  ] as const;
  for (const { pod, device, ip, bridge, node: number } of ends) {
    const node = await lab.namespace();
    const peer = ends[2 - number];
    await lab.ip(node, [
      'link add br0 type bridge forward_delay 0',
      'link set br0 up',
      `addr add ${bridge}/24 dev br0`,
    ]);
    await lab.sysctl(node, { 'net.bridge.bridge-nf-call-iptables': 1 });
    await lab.veth({ namespace: pod, device, ip: `${ip}/24` }, { namespace: node, device: 'p0' });
    await lab.veth(
      { namespace: node, device: 'eth0', ip: `192.168.0.${number}/24` },
      { namespace: fabric, device: `f${number}` },
    );
    await lab.ip(node, ['link set p0 master br0', `route add ${peer.ip}/32 via 192.168.0.${peer.node}`]);
    await lab.ip(fabric, [`link set f${number} master fab0`]);
    await lab.ip(pod, [`route add default via ${bridge}`]);
    await lab.waitForPorts(node);
  }
  await lab.waitForPorts(fabric);
  return { client, server };
}

export const ROUTER_MAC = '02:00:00:00:01:00';

/** Over one router. */
export async function routed(lab: Lab): Promise<Between & { readonly node: string }> {
  const [client, server, node] = [await lab.namespace(), await lab.namespace(), await lab.namespace()];
  await joinClient(lab, { client, router: node });
  await joinServer(lab, { server, router: node });
  return { client, server, node };
}

export interface BetweenRouters extends Between {
  readonly first: string;
  readonly second: string;
}

/** Over two routers, 10.101.0.1 and .2. */
export async function routedTwice(lab: Lab): Promise<BetweenRouters> {
  const [client, server] = [await lab.namespace(), await lab.namespace()];
  const [first, second] = [await lab.namespace(), await lab.namespace()];
  await joinClient(lab, { client, router: first });
  await lab.veth(
    { namespace: first, device: 'o0', ip: '10.101.0.1/24' },
    { namespace: second, device: 'i0', ip: '10.101.0.2/24' },
  );
  await joinServer(lab, { server, router: second });
  await lab.ip(first, ['route add 10.9.0.0/16 via 10.101.0.2']);
  await lab.ip(second, ['route add 10.0.0.0/16 via 10.101.0.1']);
  return { client, server, first, second };
}

/** The same two routers, joined by a VXLAN tunnel. */
export async function tunnelled(lab: Lab): Promise<BetweenRouters> {
  const network = await routedTwice(lab);
  const { first, second } = network;
  await lab.ip(first, [
    'link add vx0 address 02:00:00:00:04:00 type vxlan id 1 local 10.101.0.1 dev o0 dstport 8472 nolearning',
    'link set vx0 up',
    'route replace 10.9.0.0/16 via 10.201.0.2 dev vx0 onlink',
    'neigh add 10.201.0.2 lladdr 02:00:00:00:04:01 dev vx0',
  ]);
  await lab.ip(second, [
    'link add vx0 address 02:00:00:00:04:01 type vxlan id 1 local 10.101.0.2 dev i0 dstport 8472 nolearning',
    'link set vx0 up',
  ]);
  await lab.run(first, 'bridge', ['fdb', 'append', '02:00:00:00:04:01', 'dev', 'vx0', 'dst', '10.101.0.2']);
  return network;
}

async function joinClient(lab: Lab, { client, router }: { client: string; router: string }): Promise<void> {
  await lab.veth(
    { namespace: client, device: 'v0', ip: `${CLIENT_IP}/16` },
    { namespace: router, device: 'i0', ip: '10.0.255.254/16', mac: ROUTER_MAC },
  );
  await lab.ip(client, ['route add default via 10.0.255.254']);
}

async function joinServer(lab: Lab, { server, router }: { server: string; router: string }): Promise<void> {
  await lab.veth(
    { namespace: router, device: 'o0', ip: '10.9.255.253/16' },
    { namespace: server, device: 'w0', ip: `${SERVER_IP}/16`, mac: SERVER_MAC },
  );
  await lab.ip(router, [`neigh add ${SINK_IP} lladdr ${SINK_MAC} dev o0`]);
  await lab.ip(server, ['route add default via 10.9.255.253']);
}

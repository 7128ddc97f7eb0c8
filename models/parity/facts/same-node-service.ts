// A pod calls a Service whose endpoint is on its own node: itself, or its neighbor on the bridge. What becomes of the
// call depends on net.bridge.bridge-nf-call-iptables, on hairpin mode, and on who is masqueraded.

import type { NodeRules, Topology } from '../case.ts';
import { type Fact, table } from './fact.ts';

interface Row {
  readonly callIptables: 0 | 1;
  readonly hairpin: 'off' | 'on';
  readonly masquerade: Masquerade;
  /** 3 is the call to itself, 4 the call to p2. */
  readonly shows: readonly string[];
}

const MASQUERADES = {
  none: [],
  /** As kube-proxy does: who calls itself. */
  kube: ['POSTROUTING -s 10.244.1.2/32 -d 10.244.1.2/32 -j MASQUERADE'],
  all: ['POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE'],
} as const;
type Masquerade = keyof typeof MASQUERADES;

const ROWS: readonly Row[] = [
  {
    callIptables: 0,
    hairpin: 'off',
    masquerade: 'none',
    shows: [
      '3: ETIMEDOUT',
      '3: p1 gets tcp [S] 10.244.1.2:40000 > 10.244.1.2:8080 ttl 63',
      '4: ETIMEDOUT',
      '4: p1 gets tcp [SA] 10.244.1.3:8080 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [R] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 0,
    hairpin: 'off',
    masquerade: 'kube',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 63',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '4: ETIMEDOUT',
      '4: p1 gets tcp [SA] 10.244.1.3:8080 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [R] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 0,
    hairpin: 'off',
    masquerade: 'all',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 63',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 63',
      '4: p2 gets tcp [S] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [A] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 63',
    ],
  },
  {
    callIptables: 0,
    hairpin: 'on',
    masquerade: 'none',
    shows: [
      '3: ETIMEDOUT',
      '3: p1 gets tcp [S] 10.244.1.2:40000 > 10.244.1.2:8080 ttl 63',
      '4: ETIMEDOUT',
      '4: p1 gets tcp [SA] 10.244.1.3:8080 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [R] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 0,
    hairpin: 'on',
    masquerade: 'kube',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 63',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '4: ETIMEDOUT',
      '4: p1 gets tcp [SA] 10.244.1.3:8080 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [R] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 0,
    hairpin: 'on',
    masquerade: 'all',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 63',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 63',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 63',
      '4: p2 gets tcp [S] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 63',
      '4: p2 gets tcp [A] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 63',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'off',
    masquerade: 'none',
    shows: [
      '3: ETIMEDOUT',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'off',
    masquerade: 'kube',
    shows: [
      '3: ETIMEDOUT',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'off',
    masquerade: 'all',
    shows: [
      '3: ETIMEDOUT',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'on',
    masquerade: 'none',
    shows: [
      '3: ETIMEDOUT',
      '3: p1 gets tcp [S] 10.244.1.2:40000 > 10.244.1.2:8080 ttl 64',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'on',
    masquerade: 'kube',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 64',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 64',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 64',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.2:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
  {
    callIptables: 1,
    hairpin: 'on',
    masquerade: 'all',
    shows: [
      '3: connected',
      '3: p1 gets tcp [S] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 64',
      '3: p1 gets tcp [SA] 10.96.0.1:80 > 10.244.1.2:40000 ttl 64',
      '3: p1 gets tcp [A] 10.244.1.1:40000 > 10.244.1.2:8080 ttl 64',
      '4: connected',
      '4: p1 gets tcp [SA] 10.96.0.2:80 > 10.244.1.2:40001 ttl 64',
      '4: p2 gets tcp [S] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 64',
      '4: p2 gets tcp [A] 10.244.1.1:40001 > 10.244.1.3:8080 ttl 64',
    ],
  },
];

const SERVICES = [
  'PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.2:8080',
  'PREROUTING -d 10.96.0.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.3:8080',
];

function oneNode({ callIptables, hairpin }: Row): Topology {
  const pods = ['10.244.1.2', '10.244.1.3'].map((ip, i) => ({
    name: `p${i + 1}`,
    ip,
    hairpin: hairpin === 'on',
    stack: true,
  }));
  const sysctls = { 'net.bridge.bridge-nf-call-iptables': callIptables };
  return { nodes: [{ name: 'n1', podCIDR: '10.244.1.0/24', sysctls, pods }] };
}

const rules = (masquerade: Masquerade): NodeRules => ({
  backend: 'legacy',
  text: table('nat', [...SERVICES, ...MASQUERADES[masquerade]]),
});

const listen = { do: 'listen', proto: 'tcp', port: 8080 } as const;
const connect = { do: 'connect', in: 'p1', proto: 'tcp', port: 80 } as const;

export const SAME_NODE_SERVICE: readonly Fact[] = ROWS.map((row) => {
  const { callIptables, hairpin, masquerade, shows } = row;
  return {
    name: `same-node-service-nf${callIptables}-hairpin-${hairpin}-masquerade-${masquerade}`,
    says: `Same-node service, bridge-nf-call ${callIptables}, hairpin ${hairpin}, masquerade ${masquerade}: self and peer.`,
    case: {
      topology: oneNode(row),
      rules: { n1: rules(masquerade) },
      packets: [
        { socket: { ...listen, in: 'p1' } },
        { socket: { ...listen, in: 'p2' } },
        { socket: { ...connect, ip: '10.96.0.1', sport: 40_000 } },
        { socket: { ...connect, ip: '10.96.0.2', sport: 40_001 } },
      ],
    },
    shows,
  };
});

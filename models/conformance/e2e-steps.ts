// What the steps of recorded end-to-end tests do before they look: their texts are for people, so each is written down here
// again as an action on the cluster, by the test's number. A test that is not here, or whose step has no action, only looks.

import { s } from '../../engine/time.ts';
import type { ClusterOptions } from '../cluster.ts';
import { objectFrom } from '../kube/objects.ts';
import { formatIp, parseIp } from '../packet/ip-address.ts';
import { type E2eCluster, SECONDARY_ADDRESS } from './e2e-cluster.ts';

type Action = (cluster: E2eCluster) => void;

export interface E2eSetup {
  readonly options?: Partial<ClusterOptions>;
  /** Before the pods and Services of the record. */
  readonly before?: Action;
  /** The record's pods are made by steps. */
  readonly podsLater?: boolean;
  /** It looks names up. */
  readonly dns?: boolean;
  /** One per step, in order. */
  readonly steps?: readonly (Action | undefined)[];
}

/** Tests that cannot be asked, and what that takes. */
export const NOT_SIMULATED: Readonly<Record<string, string>> = {
  ...reasons('objects of the API server that no packet depends on', ['conf-16', 'conf-32', 'conf-33', 'conf-43']),
  ...reasons('the API server as a proxy, or as an endpoint', ['conf-22', 'conf-37', 'net-07']),
  ...reasons('how long a real control plane takes', ['conf-24']),
  ...reasons('which modules the kernel has loaded', ['net-34']),
  ...reasons('metrics and modes over HTTP', ['net-56']),
};

function reasons(reason: string, ids: readonly string[]): Record<string, string> {
  return Object.fromEntries(ids.map((id) => [id, reason]));
}

const NOTHING = undefined;
const servers =
  (count: number): Action =>
  (cluster) =>
    cluster.addServers(count);
const netservers: Action = (cluster) => {
  cluster.addPod({ name: 'netserver-0', node: 'n1' });
  cluster.addPod({ name: 'netserver-1', node: 'n2' });
};
const netserversBehind =
  (type: 'ClusterIP' | 'NodePort', protocol: 'TCP' | 'UDP', port = 90): Action =>
  (cluster) => {
    netservers(cluster);
    cluster.addService({ name: 'node-port-service', type, ports: [{ port, targetPort: 8081, protocol }] });
  };
const addPod =
  (name: string, node: string, more: object = {}): Action =>
  (cluster) => {
    cluster.addPod({ name, node, ...more });
    cluster.settle();
  };
const deletePod =
  (name: string): Action =>
  (cluster) =>
    cluster.deletePod(name, { gracePeriodSeconds: 0 });
const affinity =
  (sessionAffinity: 'ClientIP' | 'None'): Action =>
  (cluster) =>
    cluster.updateService({
      sessionAffinity,
      sessionAffinityConfig: sessionAffinity === 'None' ? undefined : { clientIP: { timeoutSeconds: 10_800 } },
    });
const publish =
  (publishNotReadyAddresses: boolean): Action =>
  (cluster) =>
    cluster.updateService({ publishNotReadyAddresses });
const terminate =
  (name: string): Action =>
  (cluster) => {
    cluster.deletePod(name);
    cluster.settle(s(15));
  };
/** The client's socket stays: it has sent before, and goes on. */
const replaceUdpServer: Action = (cluster) => {
  cluster.addPod({ name: 'pod-server-2', node: 'n2' });
  cluster.settle();
  cluster.deletePod('pod-server-1', { gracePeriodSeconds: 0 });
};

const LOCAL_NODE_PORT = { type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ port: 80, targetPort: 80 }] };

export const SETUPS: Readonly<Record<string, E2eSetup>> = {
  'conf-01': { dns: true },
  'conf-02': {
    dns: true,
    steps: [
      NOTHING,
      (cluster) => cluster.updateService({ externalName: 'bar.example.com' }),
      (cluster) =>
        cluster.updateService({
          type: 'ClusterIP',
          externalName: undefined,
          ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 80 }],
        }),
    ],
  },
  'conf-04': { dns: true },
  'conf-05': { dns: true },
  'conf-06': { dns: true },
  'conf-28': {
    dns: true,
    before: (cluster) => {
      servers(1)(cluster);
      cluster.addService({ name: 'nodeport-service', type: 'NodePort' });
    },
    steps: [
      (cluster) =>
        cluster.updateService({
          ...{ type: 'ExternalName', externalName: 'externalsvc.default.svc.cluster.local' },
          ...{ clusterIP: undefined, clusterIPs: undefined, ipFamilies: undefined, ipFamilyPolicy: undefined },
          ports: cluster.service()!.spec.ports.map(({ nodePort: _nodePort, ...port }) => port),
          externalTrafficPolicy: undefined,
        }),
    ],
  },
  'net-101': { dns: true, before: withSearches(Array.from({ length: 6 }, (_, i) => `${'x'.repeat(38)}${i}.example`)) },
  'net-102': { dns: true, before: withSearches(['.', '_sip._tcp.abc_d.example.com']) },
  'net-103': {
    dns: true,
    options: { featureGates: { RelaxedServiceNameValidation: true } },
    before: (cluster) => cluster.addService({ name: '1kubernetes' }),
  },
  'net-106': {
    before: (cluster) => cluster.addPod({ name: 'p', node: 'n1', hostNetwork: true, hostname: 'another-name' }),
  },
  'conf-09': {
    steps: [
      (cluster) =>
        cluster.addService({ name: 's', ports: [{ port: 80, targetPort: 3000 }], selector: { pod: 'pod1' } }),
      (cluster) => cluster.addService({ name: 'named', ports: [{ port: 80, targetPort: 'example-name' }] }),
      (cluster) => {
        for (const slice of cluster.slicesOf(cluster.service('named')))
          cluster.delete('EndpointSlice', slice.metadata.name);
      },
    ],
  },
  'conf-13': {
    steps: [
      endpoints('10.1.2.3', 'create'),
      endpoints('10.2.3.4', 'update'),
      (cluster) => cluster.delete('Endpoints', 'example-custom-endpoints'),
    ],
  },
  'conf-26': {
    before: (cluster) => {
      servers(2)(cluster);
      cluster.addService({
        name: 'externalname',
        type: 'ExternalName',
        externalName: 'foo.example.com',
        ports: [],
        selector: null,
      });
    },
    steps: [
      (cluster) =>
        cluster.updateService({
          type: 'ClusterIP',
          externalName: undefined,
          selector: { app: 'server' },
          ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 9376 }],
        }),
    ],
  },
  'conf-30': { steps: [NOTHING, affinity('None'), affinity('ClientIP')] },
  'conf-38': { steps: [NOTHING, addPod('pod1', 'n1'), addPod('pod2', 'n2'), deletePod('pod1'), deletePod('pod2')] },
  'conf-40': {
    podsLater: true,
    steps: [
      NOTHING,
      addPod('pod1', 'n1', { ports: { portname1: 100 } }),
      addPod('pod2', 'n1', { ports: { portname2: 101 } }),
      deletePod('pod1'),
      deletePod('pod2'),
    ],
  },
  'net-06': {
    before: (cluster) => {
      servers(2)(cluster);
      cluster.addService({ name: 's1' });
      cluster.addService({ name: 's2' });
    },
    steps: [
      (cluster) => {
        for (const { name } of cluster.cluster.nodes) cluster.cluster.restartKubeProxy(name);
        cluster.settle();
      },
    ],
  },
  'net-12': {
    steps: [
      (cluster) => {
        cluster.addServers(1);
        cluster.addService({ name: 's', type: 'NodePort', ports: [{ port: 80, targetPort: 80, nodePort: 30_123 }] });
        cluster.settle();
        cluster.delete('Service', 's');
      },
      (cluster) =>
        cluster.addService({
          name: 'again',
          type: 'NodePort',
          ports: [{ port: 80, targetPort: 80, nodePort: 30_123 }],
        }),
    ],
  },
  'net-13': {
    steps: [
      NOTHING,
      publish(false),
      (cluster) => {
        publish(true)(cluster);
        cluster.deletePod('slow-terminating-unready-pod');
      },
      deletePod('slow-terminating-unready-pod'),
    ],
  },
  'net-14': {
    steps: [(cluster) => cluster.deletePod('webserver'), publish(false)],
  },
  'net-16': { steps: [NOTHING, (cluster) => cluster.settle(s(15))] },
  'net-18': {
    before: (cluster) => {
      servers(2)(cluster);
      cluster.addService({ name: 'a' });
      cluster.addService({ name: 'b' });
    },
    steps: [
      (cluster) => cluster.label(HEADLESS, 'b'),
      (cluster) => cluster.label(HEADLESS, 'a'),
      (cluster) => cluster.label({}, 'a'),
    ],
  },
  'net-26': { steps: [(cluster) => cluster.deletePod('webserver')] },
  'net-29': { steps: [terminate('webserver')] },
  'net-30': { steps: [terminate('client')] },
  'net-31': { steps: [ready({ blue: true, green: false }), ready({ blue: false, green: true })] },
  'net-32': {
    before: servers(2),
    steps: [
      NOTHING,
      (cluster) =>
        cluster.updateService({ ports: cluster.service()!.spec.ports.filter(({ protocol }) => protocol === 'TCP') }),
    ],
  },
  'net-33': { steps: [NOTHING, addPod('pod1', 'n1'), deletePod('pod1')] },
  'net-48': { before: netserversBehind('ClusterIP', 'TCP', 80) },
  'net-49': { before: netserversBehind('ClusterIP', 'UDP'), steps: [NOTHING, deletePod('netserver-0')] },
  'net-50': {
    before: netserversBehind('NodePort', 'UDP'),
    steps: [NOTHING, (cluster) => cluster.delete('Service', 'node-port-service')],
  },
  'net-51': { before: netservers },
  'net-54': { before: (cluster) => cluster.addPod({ name: 'netserver-0', node: 'n2', listens: [8082] }) },
  'net-58': { steps: [NOTHING, replaceUdpServer], podsLater: true, before: udpPair() },
  'net-59': { steps: [NOTHING, replaceUdpServer], podsLater: true, before: udpPair() },
  'net-60': { steps: [NOTHING, replaceUdpServer], podsLater: true, before: udpPair(true) },
  'net-63': {
    before: (cluster) => cluster.addService({ name: 'boom', ports: [{ port: 9000, targetPort: 9000 }] }),
  },
  'net-65': {
    options: { proxyFlags: { iptables: { accounts: ['localhost_nps_accepted_pkts'] } } },
    before: servers(1),
  },
  'net-67': {
    before: (cluster) => {
      servers(2)(cluster);
      cluster.addService({ name: 'mutability-test', ports: [{ port: 80, targetPort: 80, protocol: 'UDP' }] });
    },
    steps: [
      (cluster) => {
        cluster.updateService({ type: 'LoadBalancer' });
        cluster.settle(s(20));
        cluster.lastLoadBalancerIp = cluster.service()!.status.loadBalancer.ingress[0]!.ip;
      },
      (cluster) => {
        for (const name of ['server-0', 'server-1']) cluster.deletePod(name, { gracePeriodSeconds: 0 });
      },
      (cluster) =>
        cluster.updateService({
          type: 'ClusterIP',
          externalTrafficPolicy: undefined,
          allocateLoadBalancerNodePorts: undefined,
          ports: cluster.service()!.spec.ports.map(({ nodePort: _nodePort, ...port }) => port),
        }),
    ],
  },
  'net-69': {
    before: servers(2),
    steps: [NOTHING, (cluster) => cluster.updateService({ allocateLoadBalancerNodePorts: true })],
  },
  'net-70': {
    before: (cluster) => {
      servers(4)(cluster);
      cluster.addService({ name: 's', ...LOCAL_NODE_PORT, type: 'LoadBalancer' });
    },
    steps: [affinity('ClientIP'), affinity('None')],
  },
  'net-73': {
    podsLater: true,
    before: (cluster) => {
      cluster.addPod({ name: 'pod-server-1', node: 'n1' });
      cluster.addService({ name: 's', type: 'LoadBalancer', ports: [{ port: 80, targetPort: 80, protocol: 'UDP' }] });
    },
    steps: [NOTHING, replaceUdpServer],
  },
  'net-75': {
    before: (cluster) => {
      cluster.cluster.addDeployment({ name: 'server', replicas: 3, port: 80 });
      cluster.addService({ name: 's', type: 'LoadBalancer' });
    },
  },
  'net-78': { before: (cluster) => cluster.addService({ name: 's', ...LOCAL_NODE_PORT }) },
  'net-80': { before: (cluster) => cluster.addService({ name: 's', ...LOCAL_NODE_PORT, type: 'LoadBalancer' }) },
  'net-81': {
    before: (cluster) => cluster.addService({ name: 's', ...LOCAL_NODE_PORT, type: 'LoadBalancer' }),
    steps: [
      (cluster) => {
        cluster.formerHealthCheckNodePort = cluster.service()!.spec.healthCheckNodePort;
      },
      (cluster) => cluster.updateService({ externalTrafficPolicy: 'Cluster', healthCheckNodePort: undefined }),
      (cluster) =>
        cluster.updateService({
          externalTrafficPolicy: 'Local',
          healthCheckNodePort: cluster.formerHealthCheckNodePort,
        }),
    ],
  },
  'net-90': { options: { ipFamily: 'dual' } },
  'net-93': { options: { ipFamily: 'dual' } },
  'net-95': { options: { ipFamily: 'dual' } },
  'net-97': { options: { ipFamily: 'dual' } },
  'net-114': {
    podsLater: true,
    before: (cluster) => cluster.addPod({ name: 'pod-client', node: 'n1' }),
    steps: [
      (cluster) => {
        // It sends into the void before there is an endpoint.
        cluster.keepSending('pod-client', 'clusterIP:80/UDP', { port: 12_345, for: s(10) });
        cluster.addPod({ name: 'pod-server-1', node: 'n2' });
        cluster.settle();
      },
    ],
  },
  'net-115': { before: servers(2) },
  'net-116': {
    steps: [
      (cluster) => {
        cluster.addPod({ name: 'never-ready', node: 'n1', ready: false });
        cluster.addService({ name: 's', publishNotReadyAddresses: true });
      },
    ],
  },
  'net-117': {
    steps: [
      (cluster) => {
        const nodeIP = formatIp(cluster.cluster.node('n1').ip);
        const sockets = [
          { hostIP: '127.0.0.1', protocol: 'TCP' },
          { hostIP: nodeIP, protocol: 'TCP' },
          { hostIP: nodeIP, protocol: 'UDP' },
        ] as const;
        for (const [i, socket] of sockets.entries()) {
          const ports = [{ containerPort: 8080, hostPort: 54_323, ...socket }];
          cluster.cluster.apply([
            objectFrom('Pod', { metadata: { name: `pod${i}` }, spec: { containers: [{ name: 'main', ports }] } }),
          ]);
        }
        cluster.settle();
      },
    ],
  },
  'net-120': {
    options: { proxy: 'nftables' },
    before: (cluster) => {
      servers(1)(cluster);
      cluster.addService({ name: 's', type: 'NodePort' });
      const { root } = cluster.cluster.node('n1').machine;
      root.stack.addAddress(root.deviceNamed('eth0'), parseIp(SECONDARY_ADDRESS), 16);
    },
  },
};

const HEADLESS = { 'service.kubernetes.io/headless': '' };
/** Within so long a client of one port is to reach the new server. */
export const UDP_WAIT = s(60);

function withSearches(searches: readonly string[]): Action {
  return (cluster) => cluster.addPod({ name: 'client', node: 'n1', searches });
}

function udpPair(hostNetwork = false): Action {
  return (cluster) => {
    cluster.addPod({ name: 'pod-client', node: 'n1', hostNetwork });
    cluster.addPod({ name: 'pod-server-1', node: 'n2' });
  };
}

function ready(pods: Readonly<Record<string, boolean>>): Action {
  return (cluster) => {
    for (const [name, isReady] of Object.entries(pods)) cluster.cluster.setReady(`default/${name}`, isReady);
    cluster.settle();
  };
}

function endpoints(ip: string, how: 'create' | 'update'): Action {
  return (cluster) => {
    const object = objectFrom('Endpoints', {
      metadata: { name: 'example-custom-endpoints' },
      subsets: [{ addresses: [{ ip }], ports: [{ port: 80 }] }],
    });
    if (how === 'create') cluster.cluster.api.create(object);
    else cluster.cluster.api.update(object);
    cluster.settle();
  };
}

// A recorded cluster with NetworkPolicies, asked twice about every connection: the evaluator judges it by the API objects,
// and packets go through the nodes of a simulated cluster, whose agents have been told of each change.

import { z } from 'zod';
import { s } from '../../engine/time.ts';
import { Cluster } from '../cluster.ts';
import {
  judgeReachability,
  partiesOf,
  ReachabilitySampler,
  type ReachablePort,
  type ReachParty,
} from '../cluster-reachability.ts';
import { makeNode } from '../kube/node-objects.ts';
import { type KubeObject, type Labels, type Node, objectFrom, type Pod } from '../kube/objects.ts';
import { formatPrefix, parseAddress, parsePrefix } from '../packet/ip-address.ts';
import { recordedAddress } from './recorded-case.ts';
import { recordedPolicy } from './recorded-objects.ts';
import type { Difference } from './suite.ts';

const labels = z.record(z.string(), z.string());
export const recordedNamespace = z.strictObject({ name: z.string(), labels });
export const recordedProtocol = z.enum(['TCP', 'UDP', 'SCTP']);
export const recordedPort = z.strictObject({
  name: z.string(),
  containerPort: z.int('a port').min(1, 'a port').max(65_535, 'a port'),
  protocol: recordedProtocol,
});
export const recordedPod = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  labels,
  ip: recordedAddress,
  ports: z.array(recordedPort).optional(),
});

export type RecordedNamespace = z.output<typeof recordedNamespace>;
export type RecordedPod = z.output<typeof recordedPod>;
export type RecordedPort = z.output<typeof recordedPort>;

const namespace = z.string();
const pod = z.string();

/** What is done to the cluster before connections are tried. Labels that are set replace those before. */
export const recordedAction = z.discriminatedUnion('op', [
  z.strictObject({ op: z.enum(['create', 'update']), policy: recordedPolicy }),
  z.strictObject({ op: z.literal('delete'), namespace, name: z.string() }),
  z.strictObject({ op: z.literal('labelPod'), namespace, pod, add: labels }),
  z.strictObject({ op: z.literal('setPodLabels'), namespace, pod, labels }),
  z.strictObject({ op: z.literal('setNamespaceLabels'), namespace, labels }),
  z.strictObject({ op: z.literal('createNamespace'), namespace, labels }),
  z.strictObject({ op: z.literal('deleteNamespace'), namespace }),
  z.strictObject({ op: z.literal('createPod'), namespace, pod, labels, ip: recordedAddress }),
  z.strictObject({ op: z.literal('deletePod'), namespace, pod }),
]);
export type RecordedAction = z.output<typeof recordedAction>;

/** `x/a` to `y/b`: is the connection to succeed? */
export interface ExpectedConnection {
  readonly from: string;
  readonly to: string;
  readonly isAllowed: boolean;
}

export class PolicyScenario {
  readonly #cluster: Cluster;
  readonly #sampler: ReachabilitySampler;
  /** Of every pod that does not say. */
  readonly #ports: RecordedPort[];

  constructor({
    namespaces,
    pods,
    ports = [],
  }: {
    readonly namespaces: readonly RecordedNamespace[];
    readonly pods: readonly RecordedPod[];
    readonly ports?: RecordedPort[];
  }) {
    this.#ports = ports;
    const objects = [
      ...namespaces.map(({ name, labels }) => objectFrom('Namespace', { metadata: { name, labels } })),
      ...pods.map((recorded) => this.#podFrom(recorded)),
      ...pods.flatMap(servicesOf),
    ];
    this.#cluster = new Cluster({ seed: 'network policies' });
    this.#cluster.apply([...nodesOf(pods), ...objects]);
    this.#cluster.start();
    this.#sampler = new ReachabilitySampler(this.#cluster);
  }

  /** And lets the cluster settle. */
  apply(actions: readonly RecordedAction[]): void {
    for (const action of actions) this.#apply(action);
    this.#cluster.runFor(SETTLING);
  }

  /**
   * All ways of asking against what is expected: also through the Services of pods that have one. A pod always reaches
   * itself.
   */
  differences(port: Omit<ReachablePort, 'family'>, expected: readonly ExpectedConnection[]): Difference[] {
    const connection = { ...port, family: 4 } as const;
    const parties = partiesOf(this.#cluster, 4, { outside: false });
    const judged = judgeReachability(this.#cluster, parties, connection);
    const sampled = this.#sampler.sample(parties, connection);
    const behindServices = parties.map((party) => this.#throughService(party));
    const areServices = behindServices.some(({ serviceIp }) => serviceIp !== undefined);
    const throughServices = areServices ? this.#sampler.sample(behindServices, connection) : sampled;
    const indexOf = (name: string): number => {
      const index = parties.findIndex((party) => party.name === name);
      if (index === -1) throw new RangeError(`no pod ${name}; there are ${parties.map(({ name }) => name).join(', ')}`);
      return index;
    };
    return expected.flatMap(({ from, to, isAllowed }) => {
      const [row, column] = [indexOf(from), indexOf(to)];
      const answers = {
        evaluator: judged[row]![column]!.isAllowed,
        'data path': sampled[row]![column]!,
        'data path through a Service': throughServices[row]![column]!,
      };
      return Object.entries(answers).flatMap(([who, answer]) =>
        answer === isAllowed
          ? []
          : [{ part: `${from} to ${to}, ${who}`, expected: told(isAllowed), got: told(answer) }],
      );
    });
  }

  #throughService(party: ReachParty): ReachParty {
    const address = this.#cluster.api.get('Service', serviceNameOf(party.name))?.spec.clusterIP;
    return address === undefined ? party : { ...party, serviceIp: parseAddress(address).ip };
  }

  #apply(action: RecordedAction): void {
    const { api } = this.#cluster;
    switch (action.op) {
      case 'create':
        api.create(action.policy);
        return;
      case 'update':
        api.update(action.policy);
        return;
      case 'delete':
        return api.delete('NetworkPolicy', `${action.namespace}/${action.name}`);
      case 'labelPod':
        return this.#setPodLabels(action, { ...this.#pod(action).metadata.labels, ...action.add });
      case 'setPodLabels':
        return this.#setPodLabels(action, action.labels);
      case 'createNamespace':
        api.create(objectFrom('Namespace', { metadata: { name: action.namespace, labels: action.labels } }));
        return;
      case 'setNamespaceLabels':
        api.update(objectFrom('Namespace', { metadata: { name: action.namespace, labels: action.labels } }));
        return;
      case 'deleteNamespace':
        return api.delete('Namespace', action.namespace);
      case 'createPod':
        api.create(this.#podFrom({ ...action, name: action.pod }));
        return;
      case 'deletePod':
        return api.delete('Pod', `${action.namespace}/${action.pod}`, { gracePeriodSeconds: 0 });
    }
  }

  #pod({ namespace, pod }: { readonly namespace: string; readonly pod: string }): Pod {
    const found = this.#cluster.api.get('Pod', `${namespace}/${pod}`);
    if (found === undefined) throw new RangeError(`no pod ${namespace}/${pod}`);
    return found;
  }

  #setPodLabels(which: { readonly namespace: string; readonly pod: string }, labels: Labels): void {
    const object = this.#pod(which);
    this.#cluster.api.update({ ...object, metadata: { ...object.metadata, labels } });
  }

  #podFrom({ namespace, name, labels, ip, ports = this.#ports }: RecordedPod): Pod {
    return objectFrom('Pod', {
      metadata: { namespace, name, labels },
      spec: { nodeName: nodeOf(ip), containers: [{ name: 'main', ports }] },
      status: { podIP: ip },
    });
  }
}

/** A node for the pods of each /24, so that connections within nodes and between them are tried. */
const nodesOf = (pods: readonly RecordedPod[]): Node[] =>
  [...new Set(pods.map(({ ip }) => podRangeOf(ip)))].map((podCIDR, i) =>
    makeNode({ name: nodeOf(podCIDR), address: `192.168.0.${11 + i}`, podCIDR }),
  );

const podRangeOf = (ip: string): string => formatPrefix(parsePrefix(`${ip}/24`));

/** `node-10-244-1` for an address, or the range, of 10.244.1.0/24. */
const nodeOf = (address: string): string => `node-${address.split('.').slice(0, 3).join('-')}`;

const serviceNameOf = (pod: string): string => pod.replace('/', '/svc-');

/** A Service in front of a pod that says its ports; no selector, as labels change. */
function servicesOf({ namespace, name, ip, ports = [] }: RecordedPod): KubeObject[] {
  if (ports.length === 0) return [];
  const metadata = { namespace, name: `svc-${name}` };
  const numbers = ports.map(({ name, containerPort, protocol }) => ({ name, port: containerPort, protocol }));
  return [
    objectFrom('Service', { metadata, spec: { ports: numbers } }),
    objectFrom('EndpointSlice', {
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': metadata.name } },
      addressType: 'IPv4',
      endpoints: [{ addresses: [ip] }],
      ports: numbers,
    }),
  ];
}

/** News, the delay of enforcement and the start of a pod take less. */
const SETTLING = s(2);

const told = (isAllowed: boolean): string => (isAllowed ? 'allowed' : 'refused');

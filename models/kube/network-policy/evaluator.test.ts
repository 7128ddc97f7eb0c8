import { describe, expect, test } from 'vitest';
import { type Manifest, type NetworkPolicy, objectFrom, type Pod } from '../objects.ts';
import { type Connection, type Party, PolicyEvaluator } from './evaluator.ts';

const container = (...ports: { name: string; containerPort: number; protocol?: 'UDP' }[]) => ({ name: 'main', ports });

function pod(name: string, ip: string, spec: Partial<Manifest<'Pod'>['spec']> = {}): Pod {
  const [namespace = '', own = ''] = name.split('/');
  return objectFrom('Pod', {
    metadata: { namespace, name: own, labels: { app: own } },
    spec: { nodeName: 'node-1', containers: [container()], ...spec },
    status: { podIP: ip },
  });
}

const web = pod('shop/web', '10.244.0.2', { containers: [container({ name: 'http', containerPort: 8080 })] });
const cart = pod('shop/cart', '10.244.0.3');
const spy = pod('lab/cart', '10.244.1.2', { nodeName: 'node-2' });
const agent = pod('kube-system/agent', '192.168.0.11', { hostNetwork: true });
const PODS = [web, cart, spy, agent];

type Spec = NonNullable<Manifest<'NetworkPolicy'>['spec']>;

const policy = (name: string, spec: Spec): NetworkPolicy =>
  objectFrom('NetworkPolicy', { metadata: { namespace: 'shop', name }, spec });

function judge(
  policies: readonly NetworkPolicy[],
  [from, to]: readonly [Party, Party],
  port: Partial<Pick<Connection, 'port' | 'protocol'>> = {},
) {
  const namespaces = [objectFrom('Namespace', { metadata: { name: 'shop', labels: { team: 'sales' } } })];
  const evaluator = new PolicyEvaluator({ policies, pods: PODS, namespaces });
  return evaluator.judge({ from, to, family: 4, protocol: 'TCP', port: 8080, ...port });
}

const isAllowed = (...asked: Parameters<typeof judge>): boolean => judge(...asked).isAllowed;

const FROM_CART = policy('from-cart', { ingress: [{ from: [{ podSelector: { matchLabels: { app: 'cart' } } }] }] });
const TO_HTTP = policy('to-http', { ingress: [{ ports: [{ port: 'http' }] }] });

test('without a policy everybody reaches everybody', () => {
  expect(isAllowed([], [spy, web])).toBe(true);
  expect(isAllowed([], ['203.0.113.9', web])).toBe(true);
});

describe('an isolated pod is reached', () => {
  test('by pods of the same namespace that a peer selects, not by those of others', () => {
    expect(isAllowed([FROM_CART], [cart, web])).toBe(true);
    expect(isAllowed([FROM_CART], [spy, web])).toBe(false);
    expect(isAllowed([FROM_CART], ['10.9.9.9', web])).toBe(false);
  });

  test('by what any of its policies admits: each adds to the others', () => {
    expect(isAllowed([FROM_CART, TO_HTTP], [spy, web])).toBe(true);
    expect(isAllowed([FROM_CART, TO_HTTP], [spy, web], { port: 80 })).toBe(false);
    expect(isAllowed([FROM_CART, TO_HTTP], [cart, web], { port: 80 })).toBe(true);
  });

  test('at a named port only where the pod has it, by that protocol', () => {
    expect(isAllowed([TO_HTTP], [spy, cart])).toBe(false);
    expect(isAllowed([TO_HTTP], [spy, web], { protocol: 'UDP' })).toBe(false);
  });

  test('by itself, and by its own node, whatever policies say', () => {
    const deny = policy('deny', { policyTypes: ['Ingress', 'Egress'] });
    expect(isAllowed([deny], [web, web])).toBe(true);
    expect(isAllowed([deny], [agent, web])).toBe(true);
    expect(isAllowed([deny], [web, agent])).toBe(true);
    const onAnotherNode = pod('kube-system/other', '192.168.0.12', { hostNetwork: true, nodeName: 'node-2' });
    expect(isAllowed([deny], [onAnotherNode, web])).toBe(false);
  });

  test('from a namespace by its labels; one without an object has its name for a label', () => {
    const ofSales = { namespaceSelector: { matchLabels: { team: 'sales' } } };
    const ofLab = { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'lab' } } };
    const from = (peer: typeof ofLab | typeof ofSales) => policy('from', { ingress: [{ from: [peer] }] });
    expect([cart, spy].map((client) => isAllowed([from(ofSales)], [client, web]))).toEqual([true, false]);
    expect([cart, spy].map((client) => isAllowed([from(ofLab)], [client, web]))).toEqual([false, true]);
  });

  test('from a block of addresses, but for its holes; a hole in one is none in another', () => {
    const block = (cidr: string, ...except: string[]) => ({ ipBlock: { cidr, except } });
    const from = (...peers: ReturnType<typeof block>[]) => [policy('from', { ingress: [{ from: peers }] })];
    expect(isAllowed(from(block('203.0.113.0/24')), ['203.0.113.9', web])).toBe(true);
    expect(isAllowed(from(block('10.244.0.0/16')), [spy, web])).toBe(true);
    expect(isAllowed(from(block('10.244.0.0/16', '10.244.1.0/24')), [spy, web])).toBe(false);
    expect(isAllowed(from(block('10.244.0.0/16', '10.244.1.0/24'), block('10.244.1.2/32')), [spy, web])).toBe(true);
    expect(isAllowed(from(block('::/0')), [spy, web])).toBe(false);
  });
});

test('a pod on the network of its node is not isolated, and no selector is about it', () => {
  expect(isAllowed([policy('deny', { podSelector: {} })], [spy, agent])).toBe(true);
  const all = policy('all-pods', { ingress: [{ from: [{ namespaceSelector: {} }] }] });
  const elsewhere = pod('kube-system/other', '192.168.0.12', { hostNetwork: true, nodeName: 'node-2' });
  expect(isAllowed([all], [elsewhere, web])).toBe(false);
});

test('a refusal names both ends, the policies that isolate each, and what each rule lacks', () => {
  const noEgress = policy('no-egress', { podSelector: { matchLabels: { app: 'cart' } }, policyTypes: ['Egress'] });
  const toWeb = { podSelector: { matchLabels: { app: 'web' } } };
  const ingress = [{ from: [toWeb.podSelector].map((podSelector) => ({ podSelector })) }, { ports: [{ port: 80 }] }];
  const webOnly = policy('web-only', { ...toWeb, ingress });
  expect(judge([noEgress, webOnly], [cart, web])).toEqual({
    isAllowed: false,
    refusals: [
      {
        direction: 'Egress',
        pod: 'shop/cart',
        isolatedBy: [{ policy: 'shop/no-egress', missing: ['no egress rule'] }],
      },
      {
        direction: 'Ingress',
        pod: 'shop/web',
        isolatedBy: [
          {
            policy: 'shop/web-only',
            missing: [
              'spec.ingress[0]: no peer is shop/cart (labels app=cart; namespace team=sales,kubernetes.io/metadata.name=shop)',
              'spec.ingress[1]: no port is 8080/TCP',
            ],
          },
        ],
      },
    ],
  });
});

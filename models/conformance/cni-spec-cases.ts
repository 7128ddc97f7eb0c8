// Facts of the CNI specification, asked of the runtime and of plugins made for the question.

import { CniError, failure, meaningOf } from '../cni/cni-error.ts';
import { CniLab } from '../cni/cni-lab.fixture.ts';
import { withRuntimeConfig } from '../cni/network-config.ts';
import { CNI_COMMANDS, type CniCommand, checkParameters, VARIABLES } from '../cni/parameters.ts';
import { type CniPlugin, cniPlugin } from '../cni/plugin.ts';
import { storeOf } from '../cni/plugins/host-local.ts';
import { NO_RESULT, resultJson } from '../cni/result.ts';
import { formatIp } from '../packet/ip-address.ts';
import { answerOf, type CaseInput, type Questions } from './address-case.ts';

export const SPECIFICATION_QUESTIONS: Questions = {
  parameters: ({ op }) => parametersOf(op),
  'error-code': ({ code }) => ({
    meaning: meaningOf(code),
    shape: Object.keys(new CniError(code, 'message').toJson('1.1.0')),
  }),
  'add-result': ({ plugin, ipam, dns, ifname }) => {
    const lab = new CniLab();
    const runtime = lab.network({ plugins: [{ type: plugin, isGateway: true, ipam, dns }] });
    // The sample is of the fourth container of the node.
    const names = ['first', 'second', 'third', 'blue'];
    const results = names.map((name) => runtime.add(lab.container(name, { ifName: ifname })));
    return likeSample(resultJson(results.at(-1)!, '1.1.0') as ResultText);
  },
  'ipam-result': ({ delegated }) => {
    const ipam = { type: delegated, subnet: '10.1.0.0/16', routes: [{ dst: '0.0.0.0/0' }] };
    const lab = new CniLab();
    const dns = { nameservers: ['10.1.0.1'] };
    let text: ResultText | undefined;
    const showing = cniPlugin({
      type: 'showing',
      options: {},
      add: (call) => {
        const result = { ...call.ipam!.add(), dns };
        text = resultJson(result, '1.1.0') as ResultText;
        return result;
      },
      del() {},
      check() {},
    });
    const runtime = lab.network([{ type: 'showing', ipam }], [showing]);
    for (const name of ['a', 'b', 'c', 'd']) runtime.add(lab.container(name));
    const { ips, routes, dns: shown, ...others } = text!;
    const absent = [
      ...('interfaces' in others ? [] : ['interfaces']),
      ...(ips.some((ip) => 'interface' in ip) ? [] : ['ips[].interface']),
    ];
    return { keys: Object.keys({ ips, routes, dns: shown }), absent, sample: { ips, routes, dns: shown } };
  },
  chain: ({ chain, op }) => (op === 'DEL' ? orderOfDel(chain) : collection(chain)),
  semantics: (input) => semanticsOf(input),
  'runtime-config': ({ capabilities, provided }) => {
    const config = { type: 'portmap', capabilities };
    const given = withRuntimeConfig(config, provided);
    return { ...given, removed: Object.keys(config).filter((key) => !(key in given)) };
  },
};

/** Required: without it the call is refused. Optional: with it the call is not. */
function parametersOf(op: CniCommand) {
  const all = Object.fromEntries(VARIABLES.map((name) => [name, name === 'CNI_COMMAND' ? op : 'x']));
  const fails = (environment: Readonly<Record<string, string>>): boolean =>
    answerOf(() => checkParameters(op, environment)) !== undefined;
  const { required, used } = { required: [] as string[], used: CNI_COMMANDS[op] };
  for (const name of VARIABLES) {
    const { [name]: _, ...others } = all;
    if (fails(others)) required.push(name);
  }
  return { required, optional: used.optional.filter((name) => !required.includes(name) && !fails(all)) };
}

interface ResultText {
  readonly interfaces: readonly { readonly name: string }[];
  readonly ips: readonly object[];
  readonly routes: readonly object[];
  readonly dns: object;
}

/** MACs and the name of the veth pair are the sample's own. */
const likeSample = ({ interfaces, ...text }: ResultText) => ({
  ...text,
  interfaces: interfaces.map((one, i) => ({
    ...one,
    name: /^veth[0-9a-f]+$/.test(one.name) ? 'veth3243' : one.name,
    mac: ['00:11:22:33:44:55', '55:44:33:22:11:11', '99:88:77:66:55:44'][i],
  })),
});

/** Plugins that tell of their calls; those in `failing` fail at DEL and GC. */
function telling(types: readonly string[], failing: readonly string[] = []) {
  const calls: { type: string; op: string; prevResult: unknown; config: object }[] = [];
  const plugins = types.map((type): CniPlugin => {
    const tell = (op: string, prevResult: unknown, config: object): void => {
      calls.push({ type, op, prevResult, config });
      if (op !== 'ADD' && failing.includes(type)) throw failure(`${type} fails`);
    };
    return cniPlugin({
      type,
      options: {},
      add: ({ prevResult, config }) => {
        tell('ADD', prevResult, config);
        return { ...NO_RESULT, dns: { domain: `after ${type}` } };
      },
      del: ({ prevResult, config }) => tell('DEL', prevResult, config),
      check: ({ prevResult, config }) => tell('CHECK', prevResult, config),
      gc: ({ config }) => tell('GC', undefined, config),
    });
  });
  return { calls, plugins };
}

function orderOfDel(chain: readonly string[]) {
  const lab = new CniLab();
  const { calls, plugins } = telling(chain);
  const runtime = lab.network(
    chain.map((type) => ({ type })),
    plugins,
  );
  const result = runtime.add(lab.container('c'));
  runtime.del(lab.container('c'));
  const dels = calls.filter(({ op }) => op === 'DEL');
  const middle = chain[1]!;
  const second = telling(chain, [middle]);
  const stopping = new CniLab();
  const failingRuntime = stopping.network(
    chain.map((type) => ({ type })),
    second.plugins,
  );
  failingRuntime.add(stopping.container('c'));
  const answer = answerOf(() => failingRuntime.del(stopping.container('c')));
  const stopped = second.calls.filter(({ op }) => op === 'DEL').at(-1)?.type === middle && answer !== undefined;
  return {
    order: dels.map(({ type }) => type),
    prevResult: dels.every(({ prevResult }) => prevResult === result) ? 'final ADD result for each' : 'another',
    onError: stopped ? 'stop and report' : 'go on',
  };
}

function collection(chain: readonly string[]) {
  const lab = new CniLab();
  const { calls, plugins } = telling(chain, chain);
  const runtime = lab.network(
    chain.map((type) => ({ type })),
    plugins,
  );
  const valid = [{ containerID: 'c', ifname: 'eth0' }];
  const answer = answerOf(() =>
    runtime.gc(valid.map(({ containerID, ifname }) => ({ containerId: containerID, ifName: ifname }))),
  );
  const { error } = answer as { error: string };
  const key = 'cni.dev/valid-attachments';
  const attachments = Reflect.get(calls[0]!.config, key) as readonly object[];
  return {
    onError: chain.every((type) => error.includes(`${type} fails`)) ? 'continue, report all' : error,
    input: `${key}: [{${Object.keys(attachments[0]!).join(', ')}}]`,
  };
}

function semanticsOf({ op, netns, prevResult, interface: present, sameContainerAndIfname }: CaseInput) {
  const lab = new CniLab();
  const runtime = lab.network([{ type: 'ptp', ipam: { type: 'host-local', subnet: '10.1.2.0/24' } }]);
  const container = lab.container('c');
  if (op === 'ADD') {
    const first = present === undefined ? runtime : lab.network({ name: 'other', plugins: runtime.list.plugins });
    first.add(container);
    const second = answerOf(() => runtime.add(container)) as { error?: string };
    return sameContainerAndIfname === undefined
      ? { result: second.error === undefined ? 'success' : 'error' }
      : { allowed: second.error === undefined };
  }
  const [given] = runtime.add(container).ips;
  const asked = prevResult === 'missing' ? lab.network(runtime.list.plugins) : runtime;
  const answer = answerOf(() => asked.del(netns === 'gone' ? { ...container, namespace: undefined } : container));
  const store = storeOf(lab.host, 'net', { dataDir: '/var/lib/cni/networks' });
  return {
    result: answer === undefined ? 'success' : answer,
    ipamReleased: !store.has(given!),
    address: formatIp(given!.ip, given!.family),
  };
}

// Facts about the IPAM plugin host-local, asked of it as a plugin of a network, or of its ranges.

import { addressesOf, CniLab } from '../cni/cni-lab.fixture.ts';
import type { AttachmentCall, CniRuntime } from '../cni/cni-runtime.ts';
import { readOptions } from '../cni/options.ts';
import { type CniCall, cniPlugin } from '../cni/plugin.ts';
import { AddressRange } from '../cni/plugins/address-range.ts';
import { type HostLocalOptions, hostLocal, RangeSet, RangeSets, storeOf } from '../cni/plugins/host-local.ts';
import { resultJson } from '../cni/result.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import { answerOf, type CaseInput, followedBy, type Questions } from './address-case.ts';

/** Asks its IPAM plugin and connects nothing. */
const ADDRESS_ONLY = cniPlugin({
  type: 'address-only',
  options: {},
  add: ({ ipam }) => ipam!.add(),
  del: ({ ipam }) => ipam!.del(),
  check: ({ ipam }) => ipam!.check(),
});

const NOBODY = () => false;

export const HOST_LOCAL_QUESTIONS: Questions = {
  'range-defaults': ({ range }) => {
    const read = new AddressRange(range);
    const text = (ip: typeof read.gateway): string => formatIp(ip, read.family);
    return { rangeStart: text(read.at(read.first)), rangeEnd: text(read.at(read.last)), gateway: text(read.gateway) };
  },
  'range-invalid': ({ range }) => {
    const answer = answerOf(() => new AddressRange(range)) as { error: string };
    const [, network] = /network address is (\S+)$/.exec(answer.error) ?? [];
    return { ...answer, network };
  },
  'range-overlap': ({ a, b }) => {
    const [first, second] = [new AddressRange(a), new AddressRange(b)];
    const overlap = first.overlaps(second);
    return { overlap: overlap === second.overlaps(first) ? overlap : 'not symmetric' };
  },
  'config-invalid': ({ ranges, cniVersion }) => accepts(ranges, cniVersion),
  config: ({ ranges, cniVersion }) => accepts(ranges, cniVersion),
  iteration: ({ ranges, lastReserved }) => {
    const last = lastReserved === null ? undefined : parseAddress(lastReserved);
    const candidates = [...new RangeSet(ranges, NOBODY).candidates(last)];
    return { order: candidates.map(({ ip, family }) => formatIp(ip, family)), ...followedBy('end') };
  },
  allocate: ({ ranges, used, lastReserved }) => {
    const asked = new Asked(ranges);
    asked.occupy(used);
    if (lastReserved !== null) asked.store.setLastReserved(0, parseAddress(lastReserved));
    return { ip: asked.add('new').split('/')[0] };
  },
  exhausted: ({ ranges, used }) => {
    const asked = new Asked(ranges);
    asked.occupy(used);
    return { ip: asked.add('new') };
  },
  sequence: ({ ranges, ops }) => ({ results: new Asked(ranges).run(ops).map(withoutReason) }),
  duplicate: ({ ranges, ops }) => ({ results: likeRecorded(new Asked(ranges).run(ops)) }),
  'requested-ip': ({ ranges, requested, ops }) =>
    ops === undefined
      ? { ip: new Asked(ranges).add('new', requested) }
      : { results: likeRecorded(new Asked(ranges).run(ops)) },
  capacity: ({ ranges }) => {
    const asked = new Asked(ranges);
    const given: string[] = [];
    for (;;) {
      const answer = answerOf(() => asked.add(`c${given.length}`));
      if (typeof answer !== 'string') break;
      given.push(answer.split('/')[0]!);
    }
    return { usable: given.length, first: given[0], last: given.at(-1), next: 'error' };
  },
  check: ({ reserved }) => {
    const asked = new Asked([{ subnet: '10.1.2.0/24' }]);
    asked.add('dummy');
    if (reserved !== true) asked.store.release({ containerId: 'dummy', ifName: 'eth0' });
    return answerOf(() => {
      asked.check('dummy');
      return { ok: true };
    });
  },
  'requested-source': ({ how, example }) => {
    const [wanted] = JSON.parse(example) as string[];
    const ranges = [{ subnet: `${wanted!.split('.').slice(0, 3).join('.')}.0/24` }];
    return { honoured: honours(ranges, how, wanted!), prefixIgnored: honours(ranges, how, `${wanted}/16`, wanted) };
  },
  release: ({ ops }) => releaseOnNetworks(ops),
  result: ({ network, containerID, ifname, subnet, routes }) => {
    const lab = new CniLab();
    const ipam = { type: 'host-local', subnet, routes };
    const runtime = lab.network({ name: network, plugins: [{ type: 'address-only', ipam }] }, [ADDRESS_ONLY]);
    const result = runtime.add(lab.container(containerID, { ifName: ifname }));
    const { files } = storeOf(lab.host, network, optionsOf({ subnet }));
    return { ...resultJson(result, '1.0.0'), files: filesLikeRecorded(network, files) };
  },
};

/** One node whose network has this one set of ranges. */
class Asked {
  readonly #host = new CniLab().host;
  readonly #options: HostLocalOptions;
  readonly store;

  constructor(ranges: readonly unknown[]) {
    this.#options = optionsOf({ ranges: [ranges] });
    this.store = storeOf(this.#host, 'net', this.#options);
  }

  occupy(used: readonly string[]): void {
    for (const [i, address] of used.entries())
      this.store.reserve(parseAddress(address), { containerId: `used-${i}`, ifName: 'eth0' });
  }

  add(containerId: string, requested?: string): string {
    return addressesOf(hostLocal.add(this.#call(containerId, requested))).join();
  }

  check(containerId: string): void {
    hostLocal.check(this.#call(containerId, undefined));
  }

  /** `ADD ID eth0 ip=192.168.1.5` and the like, each with an address or an error. */
  run(ops: readonly string[]): string[] {
    return ops.map((op) => {
      const [, containerId, requested] = /^ADD (\S+)(?: eth\d)?(?: ip=(\S+))?$/.exec(op) ?? [];
      if (containerId === undefined) throw new Error(`operation "${op}"; expected ADD ID`);
      const answer = answerOf(() => this.add(containerId, requested));
      return typeof answer === 'string' ? answer : `error: ${(answer as { error: string }).error}`;
    });
  }

  /** Past the runtime, which would refuse a second ADD before the plugin does. */
  #call(containerId: string, requested: string | undefined): CniCall {
    const args = requested === undefined ? {} : { args: { cni: { ips: [requested] } } };
    return {
      ...{ containerId, ifName: 'eth0', namespace: undefined, network: 'net', cniVersion: '1.1.0' },
      ...{ host: this.#host, config: { type: 'host-local', ...args }, options: this.#options },
      ...{ prevResult: undefined, ipam: undefined, delegate: refuse },
    };
  }
}

const refuse = (): never => {
  throw new Error('host-local delegates nothing');
};

const optionsOf = (ipam: object): HostLocalOptions =>
  readOptions(hostLocal.options as never, { ...ipam, type: 'host-local' }, 'host-local');

const accepts = (ranges: CaseInput['ranges'], cniVersion = '1.0.0') => {
  new RangeSets({ ranges }, { cniVersion });
  return { accepted: true };
};

function honours(ranges: readonly unknown[], how: string, wanted: string, address = wanted): boolean {
  if (how !== 'args.cni.ips') throw new Error(`${how}: no way to ask for an address that the model has`);
  return new Asked(ranges).add('new', wanted).startsWith(`${address}/`);
}

/** `ADD dummy eth0 on mynet0`: two networks of one node, each with its own directory. */
function releaseOnNetworks(ops: readonly string[]) {
  const lab = new CniLab();
  const networks = new Map<string, CniRuntime>();
  const given = new Map<string, string>();
  const removed: string[] = [];
  for (const op of ops) {
    const [, verb, containerId = '', ifName = '', network = ''] = /^(ADD|DEL) (\S+) (\S+) on (\S+)$/.exec(op) ?? [];
    const number = Number(network.replace(/\D/g, '')) + 1;
    const runtime =
      networks.get(network) ??
      lab.network(
        {
          name: network,
          plugins: [{ type: 'address-only', ipam: { type: 'host-local', subnet: `10.${number}.2.0/24` } }],
        },
        [ADDRESS_ONLY],
      );
    networks.set(network, runtime);
    const attachment: AttachmentCall = lab.container(containerId, { ifName });
    if (verb === 'ADD') given.set(network, addressesOf(runtime.add(attachment))[0]!.split('/')[0]!);
    else runtime.del(attachment);
  }
  const kept: string[] = [];
  for (const [network, address] of given)
    (storeOf(lab.host, network, optionsOf({})).has(parseAddress(address)) ? kept : removed).push(
      `${network}/${address}`,
    );
  return { removed, kept };
}

/** Line ends are written out there. */
const filesLikeRecorded = (network: string, files: ReadonlyMap<string, string>) =>
  Object.fromEntries(
    [...files].map(([name, content]) => [
      `${network}/${name}`,
      content.replaceAll('\r', '\\r').replaceAll('\n', '\\n'),
    ]),
  );

const withoutReason = (answer: string): string => (answer.startsWith('error') ? 'error' : answer);

/** Recorded reasons are parts of what the plugin says. */
const likeRecorded = (answers: readonly string[]): string[] =>
  answers.map((answer) => {
    const reason = ['duplicate allocation', 'not available'].find((known) => answer.includes(known));
    return answer.startsWith('error') && reason !== undefined ? `error: ${reason}` : answer;
  });

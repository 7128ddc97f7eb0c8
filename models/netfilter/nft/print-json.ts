// `nft -j list ruleset`: the objects and fields that say what there is and what was counted. Expressions of rules are left
// out but for counters; their text is in `nft list ruleset`.

import { printVerdict } from './print.ts';
import type { CounterStatement, NftChain, NftRule, NftRuleset, NftSet, NftTable, SetElement } from './syntax.ts';

export function printRulesetJson({ tables }: NftRuleset): string {
  const metainfo = { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 };
  const nftables = [{ metainfo }, ...[...tables.values()].flatMap(tableObjects)];
  return JSON.stringify({ nftables });
}

function tableObjects(table: NftTable): object[] {
  const { family, name, comment } = table;
  const place = { family, table: name };
  return [
    { table: { family, name, ...(comment !== undefined && { comment }) } },
    ...[...table.objects.values()].map((object) =>
      object.kind === 'counter'
        ? {
            counter: {
              ...place,
              name: object.name,
              handle: object.handle,
              packets: object.packets,
              bytes: object.bytes,
            },
          }
        : { [object.kind]: { ...place, name: object.name, handle: object.handle } },
    ),
    ...[...table.sets.values()].map((set) => setObject(place, set)),
    ...[...table.chains.values()].map((chain) => chainObject(place, chain)),
    ...[...table.chains.values()].flatMap((chain) => chain.rules.map((rule) => ruleObject(place, chain, rule))),
  ];
}

interface Place {
  readonly family: string;
  readonly table: string;
}

function chainObject(place: Place, { name, handle, base }: NftChain): object {
  const hook = base === undefined ? {} : { type: base.type, hook: base.hook, prio: base.priority, policy: base.policy };
  return { chain: { ...place, name, handle, ...hook } };
}

function ruleObject(place: Place, { name }: NftChain, { handle, comment, statements }: NftRule): object {
  const counters = statements.filter((statement): statement is CounterStatement => statement.kind === 'counter');
  const expr = counters.map(({ packets, bytes }) => ({ counter: { packets, bytes } }));
  return { rule: { ...place, chain: name, handle, ...(comment !== undefined && { comment }), expr } };
}

function setObject(place: Place, set: NftSet): object {
  const { name, handle, flags, timeoutMs, size, elements } = set;
  const types = set.keyTypes.map((type) => type.name);
  const content = {
    ...place,
    name,
    type: types.length === 1 ? types[0] : types,
    handle,
    ...(set.data !== undefined && {
      map: set.data.kind === 'value' ? set.data.types.map((type) => type.name).join(' . ') : set.data.kind,
    }),
    ...(size !== undefined && { size }),
    ...(flags.length > 0 && { flags }),
    ...(timeoutMs !== undefined && { timeout: timeoutMs / 1_000 }),
    ...(elements.length > 0 && { elem: elements.map((element) => elementObject(set, element)) }),
  };
  return set.data === undefined ? { set: content } : { map: content };
}

function elementObject({ keyTypes }: NftSet, element: SetElement): unknown {
  const { key, data, counter, expiresMs, timeoutMs, comment } = element;
  const parts = key.map(({ first, last }, i) => {
    const type = keyTypes[i]!;
    return first === last ? type.print(first).replaceAll('"', '') : { range: [type.print(first), type.print(last)] };
  });
  const value = parts.length === 0 ? '*' : parts.length === 1 ? parts[0] : { concat: parts };
  const isPlain = counter === undefined && expiresMs === undefined && timeoutMs === undefined && comment === undefined;
  const said = isPlain
    ? value
    : {
        elem: {
          val: value,
          ...(timeoutMs !== undefined && { timeout: timeoutMs / 1_000 }),
          ...(expiresMs !== undefined && { expires: Math.floor(expiresMs / 1_000) }),
          ...(comment !== undefined && { comment }),
          ...(counter !== undefined && { counter: { packets: counter.packets, bytes: counter.bytes } }),
        },
      };
  if (data === undefined) return said;
  return [said, data.kind === 'verdict' ? printVerdict(data.verdict) : data.kind === 'object' ? data.name : data.parts];
}

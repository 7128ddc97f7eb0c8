import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SYNCED_NODES } from './proxy-modes.ts';
import type { SuiteResult } from './suite.ts';
import { formatResult, parseSuite } from './suite-text.ts';
import { SUITES } from './suites.ts';

const read = (name: string): string => readFileSync(join(import.meta.dirname, `${name}.json`), 'utf8');

const run = (text: string): SuiteResult => parseSuite(text, 'facts.json').run();

type Json = { [field: string]: Json } & Json[];

/** The recorded row, alone in a file of its kind, after a change. */
function changedRow(suite: string, { section, id }: { section?: string; id: string }, change: (row: Json) => void) {
  const content: Json = JSON.parse(read(suite));
  const row = (section === undefined ? content : content[section]!).find((row) => `${row.id ?? row.about}` === id)!;
  change(row);
  return JSON.stringify(section === undefined ? [row] : { [section]: [row] });
}

const plain = (change: (row: Json) => void) => changedRow('kube-proxy-flows', { id: 'ipt-itp-cluster' }, change);

test.each(SUITES.map(({ name }) => name))('%s: every fact that is modelled', (name) => {
  const result = run(read(name));
  expect(result.mismatches).toEqual([]);
  expect(result.suite).toBe(name);
  expect(result.total).toBeGreaterThan(10);
});

test('facts about a mode of kube-proxy are left out, and counted, only while nobody has written it', () => {
  const { notModelled } = run(read('kube-proxy-flows'));
  expect(
    [...notModelled.keys()].filter((what) => Object.keys(SYNCED_NODES).some((mode) => what.includes(mode))),
  ).toEqual([]);
});

test('so are facts of releases with a gate that is not modelled', () => {
  const text = plain((row) => Object.assign(row.config!, { featureGates: { FasterThanLight: true } }));
  expect(formatResult(run(text))).toBe(
    'kube-proxy-flows: 0 of 1 flows; 1 not modelled: feature gate FasterThanLight\n',
  );
});

test('a dump after an earlier sync that failed is that of a full sync', () => {
  const id = 'seq-7-second-endpoint';
  const text = changedRow('kube-proxy-iptables-rules', { section: 'cases', id }, (row) => {
    Object.assign(row, { sync: 'full' });
  });
  const [mismatch] = run(text).mismatches;
  expect(mismatch?.differences.map(({ part }) => part)).not.toContain('kind of sync');
  expect(mismatch?.differences.map(({ part }) => part)).toContain('chains of table nat');
});

// ── a file that says otherwise ───────────────────────────────────────────────────────────────────────────────────────

describe('what the model does not agree with is told with what was expected and what came', () => {
  test('the endpoints of a flow', () => {
    const text = plain((row) => Object.assign(row.flows![0]!.expect!, { endpoints: ['10.180.0.9:80'] }));
    expect(formatResult(run(text))).toBe(
      'kube-proxy-flows: 0 of 1 flows\n' +
        `  ipt-itp-cluster: ${JSON.parse(text)[0].flows[0].about} (TCP 10.0.0.2 > 172.30.1.1:80)\n` +
        '      expected 10.180.0.9:80\n' +
        '      got      10.0.1.1:80 or 10.0.1.2:80 or 10.0.1.3:80\n',
    );
  });

  test('a rule of a chain, and how many were written', () => {
    const text = changedRow('kube-proxy-iptables-rules', { section: 'cases', id: 'overall' }, (row) => {
      row.expected!.nat!.rules!.pop();
    });
    const [mismatch] = run(text).mismatches;
    expect(mismatch?.differences.map(({ part }) => part)).toEqual([
      'table nat, chain KUBE-SVC-XPGD46QRK7WJZT7O, rule 2',
      'rules written',
    ]);
    expect(mismatch?.differences[0]?.expected).toBe('no more rules');
  });

  test('a table of nftables, and how many commands wrote it', () => {
    const content: Json = JSON.parse(read('kube-proxy-nftables-rules'));
    const row = (id: string) => content.cases!.find((row) => `${row.id}` === id)!;
    row('seq-1-initial').extra!.pop();
    Object.assign(row('seq-7-endpoint-replaced'), { transactionOperations: 8 });
    const [first, second] = run(JSON.stringify(content)).mismatches.map(({ differences }) => differences);
    expect(first).toEqual([
      {
        part: 'chain endpoint-7RVP4LUQ-ns2/svc2/tcp/p8080__10.0.2.1/8080, line 2',
        expected: 'no more lines',
        got: 'meta l4proto tcp dnat to 10.0.2.1:8080',
      },
    ]);
    expect(second).toEqual([{ part: 'commands of the transaction', expected: '8', got: '9' }]);
  });

  test('commands that nft would refuse', () => {
    const content: Json = JSON.parse(read('kube-proxy-nftables-rules'));
    const [overall] = content.cases!;
    Object.assign(content, { cases: [{ ...overall, extra: ['add rule ip kube-proxy services jump nowhere'] }] });
    expect(run(JSON.stringify(content)).mismatches[0]?.differences).toEqual([
      {
        part: 'the recorded commands',
        expected: 'what nft would take',
        got: expect.stringContaining('nowhere'),
      },
    ]);
  });

  test.each(['ipt-lb-ipmode-vip', 'nft-lb-ipmode-unset'])('an entry for the load balancer: %s', (id) => {
    const text = changedRow('kube-proxy-flows', { id }, (row) => {
      Object.assign(row, { expectDispatchEntryForLBIP: false });
    });
    const address = id === 'ipt-lb-ipmode-vip' ? '1.2.3.5' : '1.2.3.6';
    expect(run(text).mismatches[0]?.differences).toEqual([
      { part: `entry for ${address}`, expected: 'false', got: 'true' },
    ]);
  });

  test('a list of endpoints', () => {
    const text = changedRow('endpoint-topology', { id: 'zone-hints-used' }, (row) => {
      Object.assign(row.expect!, { cluster: ['10.1.2.4:80'] });
    });
    expect(run(text).mismatches[0]?.differences).toEqual([
      { part: 'cluster', expected: '["10.1.2.4:80"]', got: '["10.1.2.3:80","10.1.2.6:80"]' },
    ]);
  });

  test.each<[id: string, change: (row: Json) => void, expected: string, got: string]>([
    ['net-19', (row) => Object.assign(row.scenario!.steps![0]!.expect![0]!, { result: 'ok' }), 'ok', 'refused'],
    [
      'net-22',
      (row) => Object.assign(row.scenario!.steps![0]!.expect![0]!, { backend: 'other' }),
      'other',
      'webserver',
    ],
    [
      'net-03',
      (row) => Object.assign(row.scenario!.steps![0]!.expect![0]!, { seenSource: 'p2 IP' }),
      'p2 IP',
      '10.244.0.2',
    ],
    [
      'net-59',
      (row) => Object.assign(row.scenario!.steps![1]!.expect![0]!, { backend: 'pod-server-1' }),
      'pod-server-1',
      'pod-server-2',
    ],
    ['net-116', (row) => Object.assign(row.scenario!.steps![0]!.expect![0]!, { serving: true }), 'true', 'false'],
    [
      'conf-02',
      (row) => Object.assign(row.scenario!.steps![1]!.expect![0]!, { result: 'foo.example.com.' }),
      'foo.example.com.',
      'dns-test-service-3.default.svc.cluster.local. 30 IN CNAME bar.example.com.',
    ],
  ])('a step of an end-to-end test: %s', (id, change, expected, got) => {
    const content: Json = JSON.parse(read('kubernetes-e2e'));
    const row = [...content.conformance!, ...content.further!].find((candidate) => `${candidate.id}` === id)!;
    change(row);
    const { mismatches, facts } = run(JSON.stringify({ ...content, conformance: [], further: [row] }));
    expect(mismatches[0]?.differences[0]).toMatchObject({ expected, got });
    expect(facts?.map(({ outcome }) => outcome)).toEqual(['fail']);
  });

  test('whether conntrack is to be cleaned up', () => {
    const text = changedRow('endpoint-slices', { section: 'endpointUpdates', id: 'slice-removed' }, (row) => {
      Object.assign(row, { conntrackCleanupRequired: false });
    });
    expect(run(text).mismatches[0]?.differences).toEqual([
      { part: 'conntrack cleanup required', expected: 'false', got: 'true' },
    ]);
  });
});

describe('what is no suite ends in one line that tells the place', () => {
  test.each<[what: string, text: string, message: string]>([
    ['a file that is cut off', read('endpoint-topology').slice(0, 5_000), 'expected JSON'],
    ['no JSON', '[\n  flows\n]', "facts.json:2:4: Unexpected token 'l'; expected JSON"],
    ['a comma too many', read('endpoint-slices').replace('"expect": {', '"expect": {,'), 'expected JSON'],
    ['nothing', '', 'facts.json:1:1: Unexpected end of JSON input; expected JSON'],
    ['an empty list', '[]', 'kube-proxy-flows), '],
    ['another file', '{"name":"podwire","version":1}', 'got an object with name, version'],
    [
      'a misspelt field of a case',
      plain((row) => Object.assign(row, { befor: {} })),
      'facts.json: [0].befor: expected only known fields',
    ],
    [
      'a setting that is not known',
      plain((row) => Object.assign(row.config!, { masqueradeSome: true })),
      'facts.json: [0].config.masqueradeSome: expected only known fields',
    ],
    [
      'a verdict that is not known',
      plain((row) => Object.assign(row.flows![0]!, { expect: { verdict: 'MAYBE' } })),
      'facts.json: [0].flows[0].expect: expected endpoints, or a verdict of REJECT, DROP, ACCEPT-UNCHANGED, got {',
    ],
    [
      'a command that adds nothing',
      changedRow('kube-proxy-nftables-rules', { section: 'cases', id: 'overall' }, (row) => {
        Object.assign(row, { extra: ['flush ruleset'] });
      }),
      'facts.json: cases[0].extra[0]: expected add of a table, set, map, chain, rule or element, got "flush ruleset"',
    ],
    [
      'addresses of two families',
      plain((row) => Object.assign(row.flows![0]!, { dstIP: 'fd00::1' })),
      'facts.json: [0].flows[0].dstIP: expected an address of the family of srcIP, got "fd00::1"',
    ],
    [
      'a Service that is none',
      plain((row) => Object.assign(row.services![0]!.spec!.ports![0]!, { port: 'http' })),
      'facts.json: [0].services[0].spec.ports[0].port: expected a number from 1 to 65535, got "http"',
    ],
    [
      'a misspelt field of a Service',
      plain((row) => Object.assign(row.services![0]!.spec!, { internalTrafficPolcy: 'Local' })),
      'facts.json: [0].services[0].spec.internalTrafficPolcy: expected only known fields of a Service, got "Local"',
    ],
  ])('%s', (_, text, message) => {
    expect(() => run(text)).toThrow(
      expect.objectContaining({ name: 'SuiteError', message: expect.stringContaining(message) }),
    );
    expect(() => run(text)).toThrow(/^facts\.json:[^\n]*$/);
  });
});

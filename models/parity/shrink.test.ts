import { describe, expect, test } from 'vitest';
import type { ParityCase } from './case.ts';
import { FEATURES, generateCase } from './generate.ts';
import { shrinkCase } from './shrink.ts';
import { withoutChunks } from './without-chunks.ts';

const rulesOf = ({ rules = {} }: ParityCase): string =>
  Object.values(rules)
    .map(({ text }) => text)
    .join('');
const packetsOf = ({ packets }: ParityCase) => packets.flatMap((step) => ('from' in step ? [step] : []));

const bigCase = (backend: 'legacy' | 'nftnative', wanted: (text: string) => boolean): ParityCase => {
  for (let index = 0; ; index++) {
    const generated = generateCase({ seed: 'shrink', index, features: FEATURES, backend });
    if (wanted(rulesOf(generated))) return generated;
  }
};

test('what is left shows the difference, and nothing can go', async () => {
  const big = bigCase('legacy', (text) => /-A PREROUTING.*-j DNAT/.test(text) && text.includes('*filter'));
  const differs = async (candidate: ParityCase): Promise<boolean> =>
    /-A PREROUTING.* -j DNAT/.test(rulesOf(candidate)) && packetsOf(candidate).some(({ proto }) => proto === 'tcp');
  const small = await shrinkCase(big, differs);
  const [packet, ...others] = small.packets;
  expect(others).toEqual([]);
  expect(Object.keys(packet ?? {}).sort()).toEqual(['dport', 'dst', 'from', 'proto', 'sport', 'src']);
  expect(small.topology.nodes.flatMap(({ pods }) => pods).length).toBeLessThanOrEqual(2);
  expect(rulesOf(small)).toMatch(
    /^\*nat\n:PREROUTING ACCEPT \[0:0\]\n(:\w+ ACCEPT \[0:0\]\n)*-A PREROUTING -j DNAT --to-destination \S+\nCOMMIT\n$/,
  );
});

test('a chain goes together with the rules that call it', async () => {
  const text =
    '*filter\n:FORWARD DROP [0:0]\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j DROP\n-A FORWARD -j A\nCOMMIT\n';
  const loads = (rules: string): boolean =>
    [...rules.matchAll(/(?:-A|-j|-g) ([AB])\b/g)].every(([, chain]) => rules.includes(`:${chain} `));
  const big: ParityCase = { topology: { nodes: [] }, rules: { n1: { backend: 'legacy', text } }, packets: [] };
  const small = await shrinkCase(big, async (candidate) => {
    const rules = rulesOf(candidate);
    return loads(rules) && rules.includes('-A FORWARD') && rules.includes(':B ');
  });
  expect(rulesOf(small)).toBe('*filter\n:FORWARD ACCEPT [0:0]\n:B - [0:0]\n-A FORWARD\nCOMMIT\n');
});

describe('tables of nft lose', () => {
  const shrinkText = async (text: string, needs: RegExp): Promise<string> => {
    const big: ParityCase = { topology: { nodes: [] }, rules: { n1: { backend: 'nftnative', text } }, packets: [] };
    return rulesOf(await shrinkCase(big, async (candidate) => needs.test(rulesOf(candidate))));
  };

  test('chains, lines, elements and words', async () => {
    const text =
      'table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1, 10.0.0.2 }\n\t}\n\tchain other {\n\t\tcounter\n\t}\n' +
      '\tchain c {\n\t\ttype filter hook forward priority 0; policy accept;\n\t\tip daddr @s udp dport { 53, 80 } counter drop\n\t}\n}\n';
    expect(await shrinkText(text, /^table ip t \{[\s\S]*\tchain c \{[\s\S]*80[\s\S]*drop\n\t\}\n\}\n$/)).toBe(
      'table ip t {\n\tchain c {\n\t\t80 drop\n\t}\n}\n',
    );
  });
});

test('halves are tried before single items', () => {
  expect([...withoutChunks([1, 2, 3, 4])]).toEqual([
    [3, 4],
    [1, 2],
    [2, 3, 4],
    [1, 3, 4],
    [1, 2, 4],
    [1, 2, 3],
  ]);
  expect([...withoutChunks([])]).toEqual([]);
});

// 748 rules that iptables 1.8.9 (legacy) was asked to load, one by one: what it saved, or why it refused. The answers are
// recorded; where the real tool is, it is asked again.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { IpFamily } from '../packet/ip-address.ts';
import { parseIptablesSave } from './iptables-save.ts';

interface Asked {
  readonly family: IpFamily;
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
  /** One rule per address. */
  readonly saved?: readonly string[];
  readonly refused?: string;
}

const ASKED: readonly Asked[] = readFileSync(join(import.meta.dirname, 'testdata/rules-asked.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

/** Sets that rules name. */
const SETS =
  'create A hash:ip\ncreate A6 hash:ip family inet6\ncreate P hash:ip,port\ncreate I hash:net,iface\ncreate L list:set\n';

const textOf = ({ table, chain, rule }: Asked): string => {
  const builtin = chain === 'X' ? '' : `:${chain} ACCEPT [0:0]\n`;
  return `*${table}\n:X - [0:0]\n:Y - [0:0]\n${builtin}-A ${chain} ${rule}\nCOMMIT\n`;
};
const lineOf = ({ chain }: Asked): number => (chain === 'X' ? 4 : 5);

const title = (asked: Asked): string => `${asked.family} ${asked.table} -A ${asked.chain} ${asked.rule}`;

describe('what iptables-restore accepts is saved alike', () => {
  test.each(ASKED.filter(({ saved }) => saved).map((asked) => [title(asked), asked] as const))('%s', (_, asked) => {
    const [table] = parseIptablesSave(textOf(asked), { family: asked.family });
    const chain = table?.chains.find(({ chain }) => chain.name === asked.chain)?.chain;
    expect(chain?.rules.map(({ text }) => text)).toEqual(asked.saved);
  });
});

describe('what iptables-restore refuses is refused with its line', () => {
  test.each(ASKED.filter(({ refused }) => refused).map((asked) => [title(asked), asked] as const))('%s', (_, asked) => {
    const parse = () => parseIptablesSave(textOf(asked), { fileName: 'node-1.rules', family: asked.family });
    expect(parse).toThrow(new RegExp(`^node-1\\.rules:${lineOf(asked)}: .`));
  });
});

test.for([4, 6] as const)(
  'the real iptables of IPv%d gives the same answers',
  { timeout: 120_000 },
  (family, { skip }) => {
    const command = family === 6 ? 'ip6tables-legacy' : 'iptables-legacy';
    const probe = spawnSync('unshare', ['-n', 'sh', '-c', `${command}-save -t filter && ipset list -n`], {
      encoding: 'utf8',
    });
    if (probe.status !== 0) skip(`needs root, ${command} and ipset: ${probe.error?.message ?? probe.stderr.trim()}`);
    const asked = ASKED.filter((each) => each.family === family);
    // One namespace for all; every text is an input of its own, so that a refused rule does not stop the others.
    const script = asked
      .map(
        (each) =>
          `${command}-restore -w 30 2>&1 <<'RULES'\n${textOf(each)}RULES\necho "status $?"\n${command}-save -t ${each.table}\n`,
      )
      .join('echo next\n');
    const real = spawnSync('unshare', ['-n', 'sh'], {
      encoding: 'utf8',
      input: `ipset restore <<'SETS'\n${SETS}SETS\n${script}`,
      maxBuffer: 2 ** 28,
    });
    const answers = real.stdout.split('next\n').map((text, i) => answerIn(text, asked[i]!.chain));
    expect(answers).toEqual(asked.map(({ saved }) => saved ?? 'refused'));
  },
);

function answerIn(text: string, chain: string): string[] | 'refused' {
  if (!/^status 0$/m.test(text)) return 'refused';
  return text
    .split('\n')
    .filter((line) => line === `-A ${chain}` || line.startsWith(`-A ${chain} `))
    .map((line) => line.slice(`-A ${chain} `.length));
}

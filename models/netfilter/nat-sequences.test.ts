import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { TestNode } from './netfilter.fixture.ts';

describe('the kernel, packet by packet (testdata/nat-sequences.txt)', () => {
  const text = readFileSync(new URL('testdata/nat-sequences.txt', import.meta.url), 'utf8');
  test.each(text.trim().split('\n\n').slice(1).map(readSequence))('$title', ({ rules, packets, connections }) => {
    const node = new TestNode({ rules: rules.join('\n'), local: ['10.1.0.1', 'fd01::1'] });
    expect(packets.map(({ sent }) => `${sent} => ${leaving(node.forward(sent))}`)).toEqual(
      packets.map(({ sent, left }) => `${sent} => ${left}`),
    );
    expect(node.entries.map(withoutTime).sort()).toEqual(connections);
  });
});

interface Sequence {
  readonly title: string;
  readonly rules: readonly string[];
  readonly packets: readonly { readonly sent: string; readonly left: string }[];
  readonly connections: readonly string[];
}

function readSequence(block: string): Sequence {
  const [title = '', ...lines] = block.split('\n');
  const packets = lines.filter((line) => line.includes(' => '));
  const connections = lines.filter((line) => line.includes(' src='));
  return {
    title,
    rules: lines.filter((line) => !packets.includes(line) && !connections.includes(line)),
    packets: packets.map((line) => {
      const [sent = '', left = ''] = line.split(' => ');
      return { sent, left };
    }),
    connections,
  };
}

/** What the wire shows: nothing, whatever the reason for a drop. */
const leaving = (result: string): string => (/^[A-Z_]+$/.test(result) ? '-' : result);

/** The recording has neither seconds nor use counts. */
const withoutTime = (line: string): string => line.replace(/^(\S+ +\d+) \d+/, '$1').replace(/ use=1$/, '');

// Smaller rule texts, by lines and words: the text is not understood, only cut where its language allows it.

import { withoutChunks } from './without-chunks.ts';

/** Of iptables-restore: without a table, a chain and the rules that call it, rules, matches; with milder policies. */
export function* smallerIptables(text: string): Iterable<string> {
  const lines = text.split('\n').filter((line) => line !== '');
  const joined = (kept: readonly string[]): string => (kept.length === 0 ? '' : `${kept.join('\n')}\n`);
  for (const [start, end] of tablesOf(lines)) yield joined([...lines.slice(0, start), ...lines.slice(end + 1)]);
  for (const line of lines) {
    const [, chain] = /^:(\S+) - /.exec(line) ?? [];
    if (chain !== undefined) yield joined(lines.filter((other) => !mentionsChain(other, chain)));
  }
  const isRule = (line: string): boolean => line.startsWith('-A ');
  for (const kept of withoutChunks(lines.filter(isRule))) {
    const left = new Set(kept);
    yield joined(lines.filter((line) => !isRule(line) || left.has(line)));
  }
  for (const [index, line] of lines.entries()) {
    const milder = line.replace(/^(:\S+) DROP/, '$1 ACCEPT');
    for (const simpler of milder !== line ? [milder] : isRule(line) ? withoutMatches(line) : []) {
      yield joined(lines.map((other, i) => (i === index ? simpler : other)));
    }
  }
}

/** First and last line of each table. */
function tablesOf(lines: readonly string[]): [number, number][] {
  const starts = lines.flatMap((line, i) => (line.startsWith('*') ? [i] : []));
  return starts.map((start) => [start, lines.indexOf('COMMIT', start)]);
}

const mentionsChain = (line: string, chain: string): boolean =>
  line.split(' ').some((word, i, words) => word === chain && /^-[Ajg]$/.test(words[i - 1] ?? '')) ||
  line.startsWith(`:${chain} `);

/** A rule without one of its parts, or two that stand side by side: `-p tcp -m tcp --dport 80` goes as one. */
function* withoutMatches(line: string): Iterable<string> {
  const [head = '', ...parts] = line.split(/ (?=(?:! )?-[sdiopmjg] )/);
  for (const count of [1, 2]) {
    for (let i = 0; i + count <= parts.length; i++)
      yield [head, ...parts.slice(0, i), ...parts.slice(i + count)].join(' ');
  }
}

/** Of nft: without a block and the lines that name it, lines, elements of a list, words. */
export function* smallerNft(text: string): Iterable<string> {
  const lines = text.split('\n').filter((line) => line !== '');
  const joined = (kept: readonly string[]): string => (kept.length === 0 ? '' : `${kept.join('\n')}\n`);
  for (const [start, end] of blocksOf(lines)) {
    const name = /\S+(?= \{$)/.exec(lines[start] ?? '')?.[0] ?? '';
    const rest = [...lines.slice(0, start), ...lines.slice(end + 1)];
    yield joined(rest);
    yield joined(rest.filter((line) => !line.split(/[\s,;@]+/).includes(name)));
  }
  const isContent = (line: string): boolean => !/[{}]$/.test(line) || line.includes('{ ');
  for (const kept of withoutChunks(lines.flatMap((line, i) => (isContent(line) ? [i] : [])))) {
    const left = new Set(kept);
    yield joined(lines.filter((line, i) => !isContent(line) || left.has(i)));
  }
  for (const [index, line] of lines.entries()) {
    if (!isContent(line)) continue;
    for (const simpler of [...withoutElements(line), ...withoutWords(line)]) {
      yield joined(lines.map((other, i) => (i === index ? simpler : other)));
    }
  }
}

/** First and last line of each block, outer ones first. */
function blocksOf(lines: readonly string[]): [number, number][] {
  const open: number[] = [];
  const blocks: [number, number][] = [];
  for (const [i, line] of lines.entries()) {
    if (line.endsWith(' {')) open.push(i);
    else if (/^\s*\}$/.test(line)) blocks.push([open.pop() ?? i, i]);
  }
  return blocks.sort(([a], [b]) => a - b);
}

function* withoutElements(line: string): Iterable<string> {
  const [, before = '', inside = '', after = ''] = /^(.*\{ )(.*)( \}.*)$/.exec(line) ?? [];
  const elements = inside.split(', ');
  if (elements.length < 2) return;
  for (const kept of withoutChunks(elements)) if (kept.length > 0) yield before + kept.join(', ') + after;
}

/** Statements have up to six words: `ip daddr . meta l4proto …` loses some, and nft says whether it still is a rule. */
function* withoutWords(line: string): Iterable<string> {
  const indent = /^\s*/.exec(line)?.[0] ?? '';
  const words = line.trim().split(' ');
  for (let count = Math.min(6, words.length - 1); count >= 1; count--) {
    for (let i = 0; i + count <= words.length; i++)
      yield indent + [...words.slice(0, i), ...words.slice(i + count)].join(' ');
  }
}

/** Of ipset: without a set and its members, without members. */
export function* smallerIpset(text: string): Iterable<string> {
  const lines = text.split('\n').filter((line) => line !== '');
  const names = lines.flatMap((line) => /^create (\S+)/.exec(line)?.[1] ?? []);
  for (const name of names) yield `${lines.filter((line) => line.split(' ')[1] !== name).join('\n')}\n`;
  const isMember = (line: string): boolean => line.startsWith('add ');
  for (const kept of withoutChunks(lines.filter(isMember))) {
    const left = new Set(kept);
    yield `${lines.filter((line) => !isMember(line) || left.has(line)).join('\n')}\n`;
  }
}

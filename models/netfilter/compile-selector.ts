// From a rule's spec to its flat record of tests.

import { formatPrefix, type Prefix } from '../packet/ip-address.ts';
import { deviceNameProblem, deviceNameTest, isOneDevice } from './device-name.ts';
import { type MatchSpec, matchKind } from './matches/registry.ts';
import { PROTOCOL_NUMBERS } from './protocol.ts';
import type { RuleSpec } from './rule.ts';
import { type FrameTest, Selector } from './selector.ts';

/** Fills a fresh selector. Returns what iptables would say against the rule's matches, if anything. */
export function compileSelector(spec: RuleSpec, selector: Selector): string | undefined {
  const problem = headerProblem(spec) ?? matchesProblem(spec);
  if (problem !== undefined) return problem;
  const tests = [...compileHeader(spec, selector), ...compileMatches(spec.matches ?? [], selector)];
  if (tests.length > 0) selector.tests = tests;
  return undefined;
}

function compileHeader(spec: RuleSpec, selector: Selector): FrameTest[] {
  const { source, destination, inDevice, outDevice, protocol } = spec;
  const tests: FrameTest[] = [];
  if (source !== undefined) {
    const { net, mask } = source;
    if (spec.sourceNegated) tests.push((frame) => (frame.srcIp & mask) !== net);
    else [selector.srcNet, selector.srcMask] = [net, mask];
  }
  if (destination !== undefined) {
    const { net, mask } = destination;
    if (spec.destinationNegated) tests.push((frame) => (frame.dstIp & mask) !== net);
    else [selector.dstNet, selector.dstMask] = [net, mask];
  }
  if (inDevice !== undefined) {
    const test = deviceNameTest(inDevice);
    const { inDeviceNegated = false } = spec;
    if (isOneDevice(inDevice) && !inDeviceNegated) selector.inName = inDevice;
    else tests.push((_frame, { inName }) => test(inName) !== inDeviceNegated);
  }
  if (outDevice !== undefined) {
    const test = deviceNameTest(outDevice);
    const { outDeviceNegated = false } = spec;
    if (isOneDevice(outDevice) && !outDeviceNegated) selector.outName = outDevice;
    else tests.push((_frame, { outName }) => test(outName) !== outDeviceNegated);
  }
  if (protocol !== undefined) {
    const number = PROTOCOL_NUMBERS[protocol];
    if (spec.protocolNegated) tests.push((frame) => frame.protocol !== number);
    else selector.protocol = number;
  }
  return tests;
}

/**
 * What stands to the right of a match that remembers becomes a selector of its own, asked only when that match has
 * passed: `--set` must note the address whether or not the rule matches in the end, but only if what is left of it did.
 */
function compileMatches(matches: readonly MatchSpec[], selector: Selector): FrameTest[] {
  const tests: FrameTest[] = [];
  for (const [i, match] of matches.entries()) {
    const kind = matchKind(match.match);
    const test = kind.compile(match, selector);
    if (test !== undefined) tests.push(test);
    const rest = matches.slice(i + 1);
    if (!kind.remembers || rest.length === 0) continue;
    const after = new Selector();
    const afterTests = compileMatches(rest, after);
    if (afterTests.length > 0) after.tests = afterTests;
    tests.push((frame, context) => after.matches(frame, context));
    break;
  }
  return tests;
}

function headerProblem({ source, destination, inDevice, outDevice }: RuleSpec): string | undefined {
  return (
    prefixProblem(source) ??
    prefixProblem(destination) ??
    (inDevice === undefined ? undefined : deviceNameProblem(inDevice)) ??
    (outDevice === undefined ? undefined : deviceNameProblem(outDevice))
  );
}

const prefixProblem = (range: Prefix | undefined): string | undefined =>
  range !== undefined && (range.net & range.mask) !== range.net ? `${formatPrefix(range)} has host bits` : undefined;

function matchesProblem({ protocol, protocolNegated, matches = [] }: RuleSpec): string | undefined {
  for (const match of matches) {
    const kind = matchKind(match.match);
    if (
      kind.protocols !== undefined &&
      (protocol === undefined || protocolNegated || !kind.protocols.includes(protocol))
    ) {
      return `-m ${kind.name} needs -p ${kind.protocols.join(' or ')}`;
    }
    const problem = kind.problem?.(match);
    if (problem !== undefined) return `-m ${kind.name}: ${problem}`;
  }
  return undefined;
}

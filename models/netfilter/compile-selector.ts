// From a rule's spec to its flat record of tests.

import { contains, formatPrefix, type IpFamily, type Prefix } from '../packet/ip-address.ts';
import { deviceNameProblem, deviceNameTest, isOneDevice } from './device-name.ts';
import { type MatchSpec, matchKind } from './matches/registry.ts';
import { protocolNumber } from './protocol.ts';
import type { RuleSpec } from './rule.ts';
import { type FrameTest, Selector } from './selector.ts';

/** Fills a fresh selector. Returns what iptables would say against the rule's matches, if anything. */
export function compileSelector(spec: RuleSpec, selector: Selector): string | undefined {
  const problem = headerProblem(spec) ?? matchesProblem(spec);
  if (problem !== undefined) return problem;
  const { matches = [], family = 4 } = spec;
  if (spec.unmodelled !== undefined) {
    selector.tests = [() => false];
    return undefined;
  }
  const tests = [...compileHeader(spec, selector), ...compileMatches(matches, selector, family)];
  if (tests.length > 0) selector.tests = tests;
  selector.isOfFlow = matches.every((match) => matchKind(match.match).isOfFlow?.(match) === true);
  return undefined;
}

function compileHeader(spec: RuleSpec, selector: Selector): FrameTest[] {
  const { source, destination, inDevice, outDevice, protocol, fragment } = spec;
  const tests: FrameTest[] = [];
  if (source !== undefined) {
    const { sourceNegated: negated = false } = spec;
    if (isFlat(source) && !negated) [selector.srcNet, selector.srcMask] = [source.net, source.mask];
    else tests.push((frame) => contains(source, frame.srcIp) !== negated);
  }
  if (destination !== undefined) {
    const { destinationNegated: negated = false } = spec;
    if (isFlat(destination) && !negated) [selector.dstNet, selector.dstMask] = [destination.net, destination.mask];
    else tests.push((frame) => contains(destination, frame.dstIp) !== negated);
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
    const number = protocolNumber(protocol);
    if (spec.protocolNegated) tests.push((frame) => frame.protocol !== number);
    else selector.protocol = number;
  }
  if (fragment !== undefined) tests.push((frame) => frame.fragmentOffset > 0 === (fragment === 'later'));
  return tests;
}

/** Handles of IPv6 addresses have no bits to mask: flat fields can only say "any" and "this one". */
const isFlat = ({ family, length }: Prefix): boolean => family === 4 || length === 0 || length === 128;

/**
 * What stands to the right of a match that remembers becomes a selector of its own, asked only when that match has
 * passed: `--set` must note the address whether or not the rule matches in the end, but only if what is left of it did.
 */
function compileMatches(matches: readonly MatchSpec[], selector: Selector, family: IpFamily): FrameTest[] {
  const tests: FrameTest[] = [];
  for (const [i, match] of matches.entries()) {
    const kind = matchKind(match.match);
    const test = kind.compile(match, selector, family);
    if (test !== undefined) tests.push(test);
    const rest = matches.slice(i + 1);
    if (!kind.remembers || rest.length === 0) continue;
    const after = new Selector();
    const afterTests = compileMatches(rest, after, family);
    if (afterTests.length > 0) after.tests = afterTests;
    tests.push((frame, context) => after.matches(frame, context));
    break;
  }
  return tests;
}

function headerProblem({ family, source, destination, inDevice, outDevice, fragment }: RuleSpec): string | undefined {
  return (
    prefixProblem(source, family) ??
    prefixProblem(destination, family) ??
    (fragment !== undefined && family === 6 ? '-f is for IPv4' : undefined) ??
    (inDevice === undefined ? undefined : deviceNameProblem(inDevice)) ??
    (outDevice === undefined ? undefined : deviceNameProblem(outDevice))
  );
}

function prefixProblem(range: Prefix | undefined, family: IpFamily = 4): string | undefined {
  if (range === undefined) return undefined;
  if (range.family !== family) return `${formatPrefix(range)} in a rule of IPv${family}`;
  return contains(range, range.net) ? undefined : `${formatPrefix(range)} has host bits`;
}

function matchesProblem(rule: RuleSpec): string | undefined {
  const { family = 4, protocol, protocolNegated, matches = [] } = rule;
  for (const match of matches) {
    const kind = matchKind(match.match);
    if (kind.families?.includes(family) === false) return `-m ${kind.name} is not for IPv${family}`;
    if (kind.protocols !== undefined && (protocolNegated || !kind.protocols.some((name) => name === protocol))) {
      return `-m ${kind.name} needs -p ${kind.protocols.join(' or ')}`;
    }
    const problem = kind.problem?.(match, rule);
    if (problem !== undefined) return `-m ${kind.name}: ${problem}`;
  }
  return undefined;
}

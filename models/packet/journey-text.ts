// A journey on paper: who did what to the frame, and when. Steps stand below the network namespace in which they
// happened; a time is printed where it differs from the line above, a hook once for all its rules.

import { formatInstant, type Instant } from '../../engine/time.ts';
import type { Journey, JourneyStep } from './journey.ts';

/** The title, then a line per step; no text is cut. Ends with a line break. */
export function formatJourney({ title, frameId, steps }: Journey): string {
  const timeWidth = Math.max(0, ...steps.map(({ at }) => formatInstant(at).length));
  const visits = consecutive(steps, ({ namespace }) => namespace).map((visit) =>
    [`  ${visit[0]!.namespace}`, ...formatVisit(visit, timeWidth)].join('\n'),
  );
  return `${[title || `frame ${frameId}`, ...visits].join('\n\n')}\n`;
}

/** A journey for programs; times are whole nanoseconds since the start of the run. */
export interface JourneyJson {
  readonly frameId: number;
  readonly title: string;
  readonly steps: readonly (Omit<JourneyStep, 'at'> & { readonly atNs: number })[];
}

/** Plain data for JSON.stringify. */
export function journeyToJson({ frameId, title, steps }: Journey): JourneyJson {
  return { frameId, title, steps: steps.map(({ at, ...step }) => ({ atNs: at, ...step })) };
}

/** Steps of one namespace: stage or hook, place, text. */
export const formatSteps = (steps: readonly JourneyStep[]): string[] => layOut(steps).map(({ text }) => text);

/** The same below each other in time. */
function formatVisit(steps: readonly JourneyStep[], timeWidth: number): string[] {
  let lastAt: Instant | undefined;
  return layOut(steps).map(({ at, text }) => {
    const time = at === lastAt ? '' : formatInstant(at);
    lastAt = at;
    return `    ${time.padStart(timeWidth)}  ${text}`;
  });
}

/** A hook is named once; places are aligned where they follow each other. */
function layOut(steps: readonly JourneyStep[]): { at: Instant; text: string }[] {
  let lastHook: string | undefined;
  return consecutive(steps, alignmentOf).flatMap((run) => {
    const placeWidth = Math.max(...run.map((step) => placeOf(step).length));
    return run.map((step) => {
      const hook = hookOf(step);
      const stage = hook === undefined ? step.stage : hook === lastHook ? '' : hook;
      lastHook = hook;
      const place = placeWidth === 0 ? [] : [placeOf(step).padEnd(placeWidth)];
      return { at: step.at, text: [stage.padEnd(STAGE_WIDTH), ...place, step.text].join('  ').trimEnd() };
    });
  });
}

const STAGE_WIDTH = 'POSTROUTING'.length;

/** Places of rules are long; a device among them is not to be padded to their width. */
const alignmentOf = (step: JourneyStep): string =>
  placeOf(step) === '' ? 'no place' : hookOf(step) === undefined ? 'device' : 'rule';

/** Rules and policies stand under the name of their hook, everything else under that of its stage. */
const hookOf = ({ stage, hook }: JourneyStep): string | undefined =>
  stage === 'rule' || stage === 'hook' ? hook : undefined;

/** `nat KUBE-SERVICES #3`, or the device when the text does not name it; often empty. */
function placeOf({ device, table, chain, ruleNumber, text }: JourneyStep): string {
  const silentDevice = device === undefined || text.includes(device) ? undefined : device;
  const number = ruleNumber === undefined ? undefined : `#${ruleNumber}`;
  return [silentDevice, table, chain, number].filter((part) => part !== undefined).join(' ');
}

/** Cuts a list where the key changes. */
function consecutive<T>(items: readonly T[], keyOf: (item: T) => unknown): T[][] {
  const groups: T[][] = [];
  for (const item of items) {
    const group = groups.at(-1);
    if (group !== undefined && keyOf(group[0]!) === keyOf(item)) group.push(item);
    else groups.push([item]);
  }
  return groups;
}

// DNS: what a cluster's server answers, what kubelet writes for pods, and what C libraries ask.

import { z } from 'zod';
import { differencesOfCase, differencesOfEndpointName, dnsCase, dnsFixture, endpointNameCase } from './dns-cases.ts';
import { differencesOfE2eName, e2eName } from './dns-cluster.ts';
import {
  differencesOfPodHosts,
  differencesOfResolvConf,
  differencesOfResolvConfText,
  podHostsCase,
  resolvConfCase,
  resolvConfText,
} from './dns-pod-files.ts';
import { differencesOfTiming, differencesOfWalk, stubTiming, stubWalk } from './dns-stub.ts';
import { type Difference, defineSuite } from './suite.ts';

/** A fact, or what in it Podwire knows nothing of: a setting of a server or a library that is not modelled. */
type Fact<Item> = { readonly fact: Item } | { readonly unmodelled: string };

/** Facts that have unknown fields, and nothing else wrong with them, are counted and not asked about. */
const listOf = <Item extends z.ZodType>(item: Item) =>
  z
    .array(
      z.unknown().transform((row, context): Fact<z.output<Item>> => {
        const parsed = item.safeParse(row);
        if (parsed.success) return { fact: parsed.data };
        const { issues } = parsed.error;
        const strange = issues.flatMap((issue) => (issue.code === 'unrecognized_keys' ? issue.keys : []));
        if (issues.every(({ code }) => code === 'unrecognized_keys'))
          return { unmodelled: `field ${strange.join(', ')}` };
        for (const { path, message } of issues) context.addIssue({ code: 'custom', path: [...path], message });
        return z.NEVER;
      }),
    )
    .default([]);

export const dns = defineSuite({
  name: 'dns',
  unit: 'facts',
  content: 'an object with fixtures and cases, or with endpointNames, resolvConf, stubWalks and the like',
  schema: z
    .looseObject({
      fixtures: z.record(z.string(), dnsFixture).default({}),
      cases: listOf(dnsCase),
      endpointNames: listOf(endpointNameCase),
      resolvConf: listOf(resolvConfCase),
      resolvConfParse: listOf(resolvConfText),
      podHosts: listOf(podHostsCase),
      stubWalks: listOf(stubWalk),
      stubTiming: listOf(stubTiming),
      e2eNames: listOf(e2eName),
    })
    .superRefine(({ fixtures, cases }, context) => {
      for (const [i, recorded] of cases.entries())
        if ('fact' in recorded && !Object.hasOwn(fixtures, recorded.fact.fixture))
          context.addIssue({
            code: 'custom',
            path: ['cases', i, 'fixture'],
            message: `one of ${Object.keys(fixtures).join(', ') || 'the fixtures, of which there are none'}`,
          });
    }),
  recognises: (value) => value instanceof Object && SECTIONS.some((section) => section in value),
  check: (facts, tally) => {
    const ask = <Item extends { readonly id: string; readonly topic: string }>(
      recorded: readonly Fact<Item>[],
      differencesOf: (fact: Item) => Difference[] | { readonly unmodelled: string },
      about: (fact: Item) => string = () => '',
    ): void => {
      for (const row of recorded) {
        const differences = 'fact' in row ? differencesOf(row.fact) : row;
        if ('unmodelled' in differences) tally.notModelled(differences.unmodelled);
        else if ('fact' in row) tally.fact(`${row.fact.id}: ${row.fact.topic}${about(row.fact)}`, differences);
      }
    };
    ask(
      facts.cases,
      (recorded) => differencesOfCase(recorded, facts.fixtures[recorded.fixture]!),
      ({ query }) => `, ${query.type} ${query.name}`,
    );
    ask(facts.endpointNames, differencesOfEndpointName);
    ask(facts.resolvConf, differencesOfResolvConf);
    ask(facts.resolvConfParse, differencesOfResolvConfText);
    ask(facts.podHosts, differencesOfPodHosts);
    const walks = facts.stubWalks.flatMap((row) => ('fact' in row ? [row.fact] : []));
    ask(
      facts.stubWalks,
      (walk) => differencesOfWalk(walk, walks),
      ({ libc, name }) => `, ${libc}, ${name}`,
    );
    ask(facts.stubTiming, differencesOfTiming, ({ libc }) => `, ${libc}`);
    ask(facts.e2eNames, differencesOfE2eName, ({ query }) => `, ${query.type} ${query.name}`);
  },
});

/** By which a file of this form is told from others. */
const SECTIONS = [
  'fixtures',
  'endpointNames',
  'resolvConf',
  'resolvConfParse',
  'podHosts',
  'stubWalks',
  'stubTiming',
  'e2eNames',
];

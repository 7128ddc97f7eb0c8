// DNS: what a cluster's server answers, what kubelet writes for pods, and what C libraries ask.

import { z } from 'zod';
import { differencesOfCase, differencesOfEndpointName, dnsCase, dnsFixture, endpointNameCase } from './dns-cases.ts';
import {
  differencesOfPodHosts,
  differencesOfResolvConf,
  differencesOfResolvConfText,
  podHostsCase,
  resolvConfCase,
  resolvConfText,
} from './dns-pod-files.ts';
import { differencesOfTiming, differencesOfWalk, stubTiming, stubWalk } from './dns-stub.ts';
import { defineSuite } from './suite.ts';

const listOf = <Item extends z.ZodType>(item: Item) => z.array(item).default([]);

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
    })
    .superRefine(({ fixtures, cases }, context) => {
      for (const [i, { fixture }] of cases.entries())
        if (!Object.hasOwn(fixtures, fixture))
          context.addIssue({
            code: 'custom',
            path: ['cases', i, 'fixture'],
            message: `one of ${Object.keys(fixtures).join(', ') || 'the fixtures, of which there are none'}`,
          });
    }),
  recognises: (value) => value instanceof Object && SECTIONS.some((section) => section in value),
  check: (facts, tally) => {
    for (const recorded of facts.cases) {
      const { id, topic, query } = recorded;
      const differences = differencesOfCase(recorded, facts.fixtures[recorded.fixture]!);
      tally.fact(`${id}: ${topic}, ${query.type} ${query.name}`, differences);
    }
    for (const fact of facts.endpointNames) tally.fact(`${fact.id}: ${fact.topic}`, differencesOfEndpointName(fact));
    for (const fact of facts.resolvConf) tally.fact(`${fact.id}: ${fact.topic}`, differencesOfResolvConf(fact));
    for (const fact of facts.resolvConfParse)
      tally.fact(`${fact.id}: ${fact.topic}`, differencesOfResolvConfText(fact));
    for (const fact of facts.podHosts) tally.fact(`${fact.id}: ${fact.topic}`, differencesOfPodHosts(fact));
    for (const fact of facts.stubWalks) {
      const title = `${fact.id}: ${fact.topic}, ${fact.libc}, ${fact.name}`;
      tally.fact(title, differencesOfWalk(fact, facts.stubWalks));
    }
    for (const fact of facts.stubTiming) {
      const differences = differencesOfTiming(fact);
      if ('unmodelled' in differences) tally.notModelled(differences.unmodelled);
      else tally.fact(`${fact.id}: ${fact.topic}, ${fact.libc}`, differences);
    }
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

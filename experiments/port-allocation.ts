// What do the three ways to give ports to applications cost: everybody the port that it likes, drawn ports, an address each?
//
// Expectation (the model of Kubernetes' design, docs/concepts/cluster-administration/networking: "Coordinating ports across
// multiple developers is very difficult to do at scale"). On one host n applications that all like port 8080 have n - 1
// conflicts, and one that works. If each draws a port of 2,768 and draws again when it is taken, about n (n - 1) / (2 x 2,768)
// draws meet, and all work, but only who is told the port finds the application: none is at 8080. With an address per
// pod nothing conflicts, and all are where everybody looks.

import type { Range } from './harness/expectation.ts';
import {
  atMost,
  type Cluster,
  constantRate,
  exactly,
  experiment,
  Load,
  meanFinding,
  ms,
  objectFrom,
  s,
} from './podwire.ts';

const APPLICATIONS = [10, 50, 100] as const;
const MODELS = ['static ports', 'dynamic ports', 'address per pod'] as const;

/** What is measured, in words. */
const MEASURES = {
  conflicts: 'ports that were taken',
  working: 'applications that work',
  foundAtKnownPort: 'applications found at their usual port',
} as const;
type Measure = keyof typeof MEASURES;

/** Where clients look. */
const KNOWN_PORT = 8080;
/** As node ports: 30000 to 32767. */
const FIRST_PORT = 30_000;
const PORTS = 2_768;

export default experiment({
  name: 'port-allocation',
  question: 'What do the three ways to give ports to applications cost: ports they like, drawn ports, an address each?',
  factors: { model: MODELS, applications: APPLICATIONS },
  replications: 20,
  warmUp: ms(0),
  duration: s(1),

  build({ model, applications }, cluster) {
    cluster.addNodes(2);
    const names = Array.from({ length: applications }, (_, i) => `app-${i}`);
    for (const name of names) start(cluster, name, model);
    // At whatever port it is, and at the one where everybody looks.
    const found = new Load();
    for (const name of names) {
      const { ip } = cluster.pod(`default/${name}`);
      const to = { ip, port: KNOWN_PORT };
      cluster.openLoop(cluster.node('node-2').process, {
        to,
        arrivals: constantRate({ perSecond: 20 }),
        requests: 10,
        load: found,
      });
    }
    return { names, found };
  },

  measure: ({ names, found }, cluster) => ({
    conflicts: cluster.bindFailures.length,
    working: names.filter((name) => cluster.servers.get(`default/${name}`)?.listens === true).length,
    foundAtKnownPort: found.perServer.size,
  }),

  findings: (runs) =>
    APPLICATIONS.flatMap((applications) => {
      const mean = (model: (typeof MODELS)[number], measure: Measure, expected: Range) =>
        meanFinding(
          `${model}, ${applications} applications: ${MEASURES[measure]}`,
          runs.at({ model, applications }).map((cell) => cell[measure]),
          expected,
        );
      const clashes = (applications * (applications - 1)) / (2 * PORTS);
      return [
        ...mean('static ports', 'conflicts', exactly(applications - 1)),
        ...mean('static ports', 'working', exactly(1)),
        ...mean('dynamic ports', 'conflicts', atMost(0.5 + 2 * clashes)),
        ...mean('dynamic ports', 'working', exactly(applications)),
        ...mean('dynamic ports', 'foundAtKnownPort', exactly(0)),
        ...mean('address per pod', 'conflicts', exactly(0)),
        ...mean('address per pod', 'foundAtKnownPort', exactly(applications)),
      ];
    }),

  charts: [{ x: 'applications', y: 'conflicts', by: 'model' }],
});

function start(cluster: Cluster, name: string, model: (typeof MODELS)[number]): void {
  if (model !== 'dynamic ports')
    return apply(cluster, name, { port: KNOWN_PORT, hostNetwork: model === 'static ports' });
  const draws = cluster.sim.random.stream('ports');
  for (;;) {
    const refused = cluster.bindFailures.length;
    apply(cluster, name, { port: FIRST_PORT + draws.int(PORTS), hostNetwork: true });
    if (cluster.bindFailures.length === refused) return;
    cluster.api.remove('Pod', `default/${name}`);
  }
}

function apply(cluster: Cluster, name: string, { port, hostNetwork }: { port: number; hostNetwork: boolean }): void {
  const spec = { nodeName: 'node-1', hostNetwork, containers: [{ name: 'app', ports: [{ containerPort: port }] }] };
  cluster.apply([objectFrom('Pod', { metadata: { name }, spec })]);
}

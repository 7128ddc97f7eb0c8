import { describe, expect, expectTypeOf, test } from 'vitest';
import { ms, s } from '../../engine/time.ts';
import { meanFinding } from './expectation.ts';
import { type ExperimentDefinition, experimentsOn, type Factors, isExperiment } from './experiment.ts';
import { TickingCluster } from './testdata/ticking-cluster.ts';

const experiment = experimentsOn((options) => new TickingCluster(options));

/** An experiment of which a test says only what it is about. */
const minimal = {
  name: 'minimal',
  factors: { size: [1, 2] },
  replications: 1,
  warmUp: ms(10),
  duration: ms(100),
  build: (_: unknown, cluster: TickingCluster) => cluster,
  measure: (cluster: TickingCluster) => ({ measuredMs: cluster.measuredMs }),
};

/** The log of the only run. */
function logOf(
  definition: Pick<ExperimentDefinition<TickingCluster, Factors, TickingCluster, { measuredMs: number }>, 'story'>,
) {
  const clusters: TickingCluster[] = [];
  const build = (_: unknown, cluster: TickingCluster) => {
    clusters.push(cluster);
    return cluster;
  };
  experiment({ ...minimal, ...definition, build }).run({ size: 1 }, '1/1');
  return clusters[0]!.log;
}

test('levels give build its types, build gives measure its load', () => {
  const typed = experiment({
    ...{ name: 'typed', replications: 1, warmUp: s(0), duration: s(1) },
    factors: { services: [10, 100], proxy: ['iptables', 'nftables'], hairpin: [true, false] },
    build({ services, proxy, hairpin }, cluster) {
      expectTypeOf(services).toEqualTypeOf<10 | 100>();
      expectTypeOf(proxy).toEqualTypeOf<'iptables' | 'nftables'>();
      expectTypeOf(hairpin).toEqualTypeOf<boolean>();
      expectTypeOf(cluster).toEqualTypeOf<TickingCluster>();
      return { rules: services * 8, proxy };
    },
    measure(load) {
      expectTypeOf(load.rules).toEqualTypeOf<number>();
      return { rules: load.rules };
    },
    *story(cluster, load) {
      expectTypeOf(load.rules).toEqualTypeOf<number>();
      yield ms(cluster.measuredMs);
    },
  });

  expect(typed.run({ services: 100, proxy: 'nftables', hairpin: true }, '1/1').measures).toEqual({ rules: 800 });
});

test('findings see all runs with their levels', () => {
  const judged = experiment({
    ...minimal,
    findings(runs) {
      expectTypeOf(runs.at({ size: 1 })[0]!.measuredMs).toEqualTypeOf<number>();
      return meanFinding(
        'measured (ms)',
        runs.pairs({ size: 1 }, { size: 2 }, (a, b) => a.measuredMs + b.measuredMs),
        {
          from: 0,
          to: 1,
        },
      );
    },
  });
  const runs = [1, 2].map((size) => ({ levels: { size }, measures: judged.run({ size }, '1/1').measures }));
  expect(judged.findings(runs).map(({ found }) => found.value)).toEqual([200]);
  expect(experiment(minimal).findings(runs)).toEqual([]);
});

test('a cluster is made with what the levels ask for', () => {
  const clusters: TickingCluster[] = [];
  const sized = experimentsOn<TickingCluster, { lost: number }>(({ seed, lost = 0 }) => {
    const cluster = new TickingCluster({ seed });
    cluster.lost = lost;
    clusters.push(cluster);
    return cluster;
  });
  sized({ ...minimal, clusterOptions: ({ size }) => ({ lost: size * 10 }) }).run({ size: 2 }, '1/1');
  expect(clusters.map(({ seed, lost }) => ({ seed, lost }))).toEqual([{ seed: '1/1', lost: 20 }]);
});

describe('a run', () => {
  test('warms up, measures for the duration, and ends with balanced books', () => {
    expect(logOf({})).toEqual(['10 ran', '10 measuring', '110 ran', '110 conserved']);
  });

  test('gives measures, events, fingerprint and the ends of its frames', () => {
    const lossy = experiment({
      ...minimal,
      build(_, cluster) {
        cluster.lost = 3;
        return cluster;
      },
    });
    expect(lossy.run({ size: 1 }, '7/2')).toEqual({
      measures: { measuredMs: 100 },
      tables: {},
      files: {},
      events: 110,
      fingerprint: '7/2@110000000',
      frames: { sent: 110, delivered: 107, dropped: 3, inFlight: 0 },
      drops: new Map([['WIRE_LOSS', 3]]),
    });
  });

  test('hands the cluster those of its factors that are asked for, unless the experiment has them itself', () => {
    const created: object[] = [];
    const clusterFactors = { ipFamily: ['ipv4', 'dual'], size: [1, 2] } as const;
    const onClusters = experimentsOn((options) => {
      created.push(options);
      return new TickingCluster(options);
    }, clusterFactors);
    const varied = onClusters(minimal);
    expect(varied.heldFactors).toEqual({ ipFamily: ['ipv4', 'dual'] });
    varied.run({ size: 1 }, '1/1');
    varied.run({ size: 1, ipFamily: 'dual' }, '1/1');
    expect(created).toEqual([{ seed: '1/1' }, { seed: '1/1', ipFamily: 'dual' }]);
  });

  test('tells its story from the start of the measured time', () => {
    const log = logOf({
      *story(cluster) {
        cluster.note('calm');
        yield ms(30);
        cluster.note('web scaled to 0');
        yield ms(20);
        cluster.note('web scaled to 6');
      },
    });
    expect(log).toEqual([
      ...['10 ran', '10 measuring', '10 calm', '40 ran', '40 web scaled to 0', '60 ran', '60 web scaled to 6'],
      ...['110 ran', '110 conserved'],
    ]);
  });

  test('cuts off a story that goes on for ever', () => {
    const log = logOf({
      *story(cluster) {
        for (;;) {
          yield ms(40);
          cluster.note('restarted');
        }
      },
    });
    expect(log.filter((line) => line.endsWith('restarted'))).toEqual(['50 restarted', '90 restarted']);
    expect(log.at(-1)).toBe('110 conserved');
  });
});

describe('a definition is refused', () => {
  test.each<[string, object, string]>([
    [
      'name',
      { name: 'Service Count' },
      'experiment name "Service Count"; expected lower case words joined by hyphens, like service-count',
    ],
    [
      'factor name',
      { factors: { 'how many': [1] } },
      'experiment "minimal": factor name "how many"; expected a camelCase word',
    ],
    [
      'column taken',
      { factors: { seed: [1] } },
      'experiment "minimal": factor name "seed" is taken by a column of the results',
    ],
    ['no levels', { factors: { size: [] } }, 'experiment "minimal": factor "size" has no levels'],
    ['one level, no list', { factors: { size: 3 } }, 'experiment "minimal": factor "size" has no levels'],
    ['same level twice', { factors: { size: [1, 2, 1] } }, 'experiment "minimal": factor "size" lists 1 twice'],
    ['same text twice', { factors: { size: [1, '1'] } }, 'experiment "minimal": factor "size" lists "1" twice'],
    [
      'no plain level',
      { factors: { size: [{}] } },
      'experiment "minimal": factor "size" has the level {}; expected a text, a number or a boolean',
    ],
    ['replications', { replications: 0 }, 'experiment "minimal": replications is 0; expected a whole number from 1'],
    [
      'warm-up',
      { warmUp: undefined },
      'experiment "minimal": warmUp is undefined; expected a Duration, for example s(1)',
    ],
    [
      'duration',
      { duration: 0 },
      'experiment "minimal": duration is 0; expected a Duration above zero, for example s(10)',
    ],
  ])('for its %s', (_, wrong, message) => {
    expect(() => experiment({ ...minimal, ...wrong } as typeof minimal)).toThrow(message);
  });
});

test('an experiment is told apart from whatever else a file may export', () => {
  expect(isExperiment(experiment(minimal))).toBe(true);
  expect([minimal, undefined, 'dice', { kind: 'dice' }].filter(isExperiment)).toEqual([]);
});

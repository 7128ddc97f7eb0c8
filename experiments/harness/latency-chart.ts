// The latency of every service port as a chart: median, 90th and 99th percentile on one line, per path of the requests.

import { type Chart, HORIZONTAL_AXIS, type Layer, SOFT_INK } from './chart.ts';

export interface LatencyRow {
  /** `shop/web:http`. */
  readonly servicePort: string;
  /** How requests got there, for example `same node`. */
  readonly path: string;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
}

/** Rows in the order in which they are to be read. */
export function latencyChart(rows: readonly LatencyRow[]): Chart {
  const paths = distinct(rows.map(({ path }) => path));
  const ranges = rows.map((row) => ({ ...row }));
  const points = ranges.flatMap((row) => [
    { ...row, percentile: 'p50', latencyUs: row.p50Us },
    { ...row, percentile: 'p90', latencyUs: row.p90Us },
    { ...row, percentile: 'p99', latencyUs: row.p99Us },
  ]);
  const encoding = {
    y: {
      field: 'servicePort',
      type: 'nominal',
      sort: distinct(rows.map(({ servicePort }) => servicePort)),
      scale: { paddingInner: 0.25, paddingOuter: 0.15 },
      axis: { title: null, labelLimit: 320, labelFontSize: 12 },
    },
    yOffset: { field: 'path', sort: paths },
    x: { field: 'p50Us', type: 'quantitative', scale: latencyScale(rows), axis: LATENCY_AXIS },
    color: {
      field: 'path',
      type: 'nominal',
      sort: paths,
      legend: paths.length > 1 ? { title: 'path', symbolType: 'circle' } : null,
    },
  } as const;
  const layer: Layer[] = [
    {
      data: { values: ranges },
      mark: { type: 'rule', strokeWidth: 4, opacity: 0.3, strokeCap: 'round' },
      encoding: { ...encoding, x2: { field: 'p99Us' } },
    },
    {
      data: { values: points },
      mark: { type: 'point', filled: true, size: 75, opacity: 1 },
      encoding: { ...encoding, x: { ...encoding.x, field: 'latencyUs' }, shape: PERCENTILES },
    },
  ];
  return { title: 'Request latency by service port', width: 560, height: STEP, layer };
}

/** Pixels per service port and path. */
const STEP = { step: 22, for: 'offset' } as const;

const LATENCY_AXIS = { title: 'latency (µs)', ...HORIZONTAL_AXIS };

/** A dot, a diamond, and an upright bar where the line ends. */
const PERCENTILES = {
  field: 'percentile',
  type: 'nominal',
  scale: { domain: ['p50', 'p90', 'p99'], range: ['circle', 'diamond', 'M-0.22,-0.8H0.22V0.8H-0.22Z'] },
  legend: { title: 'percentile', symbolFillColor: SOFT_INK, symbolStrokeWidth: 0 },
} as const;

/** From zero, unless the slowest is a hundred times the fastest. */
function latencyScale(rows: readonly LatencyRow[]) {
  const fastest = Math.min(...rows.map(({ p50Us }) => p50Us));
  const slowest = Math.max(...rows.map(({ p99Us }) => p99Us));
  return fastest > 0 && slowest > 100 * fastest ? ({ type: 'log' } as const) : { zero: true };
}

function distinct(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}

// How the requests of each service spread over its endpoints, as a chart: a bar per endpoint, and a mark where it would
// end if every endpoint had its expected share.

import { type Chart, HORIZONTAL_AXIS, INK, type Layer, PALETTE } from './chart.ts';

export interface LoadRow {
  /** `shop/web:http`. */
  readonly service: string;
  /** `web-0 on node-1`. */
  readonly endpoint: string;
  readonly requests: number;
  /** Undefined where no share is expected, for example with session affinity. */
  readonly expectedRequests?: number | undefined;
}

/** Rows in the order in which they are to be read. */
export function loadChart(rows: readonly LoadRow[]): Chart {
  const services = [...new Set(rows.map(({ service }) => service))];
  const endpoint = {
    field: 'endpoint',
    type: 'nominal',
    sort: rows.map((row) => row.endpoint),
    axis: { title: null, labelLimit: 260 },
  } as const;
  const layer: Layer[] = [
    {
      mark: { type: 'bar', cornerRadiusEnd: 2, color: PALETTE[0]!, height: { band: 0.7 } },
      encoding: { y: endpoint, x: { field: 'requests', type: 'quantitative', axis: REQUESTS_AXIS } },
    },
    {
      mark: { type: 'tick', thickness: 2.5, opacity: 1, height: { band: 0.95 } },
      encoding: {
        y: endpoint,
        x: { field: 'expectedRequests', type: 'quantitative' },
        color: { datum: 'expected share', scale: { range: [INK] }, legend: LEGEND },
      },
    },
  ];
  return {
    title: 'Requests by endpoint',
    data: { values: rows.map((row) => ({ ...row })) },
    facet: { row: { field: 'service', type: 'nominal', sort: services, header: HEADER } },
    resolve: { scale: { y: 'independent' } },
    spacing: 14,
    spec: { width: 480, height: { step: 18 }, layer },
  };
}

const REQUESTS_AXIS = { title: 'requests', ...HORIZONTAL_AXIS };
/** An upright bar, like the mark. */
const LEGEND = { title: null, symbolType: 'M-0.15,-1.1H0.15V1.1H-0.15Z', symbolStrokeWidth: 0 } as const;
const HEADER = { labelOrient: 'top', labelAnchor: 'start', labelPadding: 4, labelLimit: 480 } as const;

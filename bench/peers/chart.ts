// Ratios as a chart: a line from 1 (as fast as the peer) to the ratio for each row, a bar across where it is to be.

import { type Chart, HORIZONTAL_AXIS, INK, type Layer, PALETTE, SOFT_INK } from '../../experiments/harness/chart.ts';
import type { Outcome } from './comparison.ts';
import { rowName } from './report.ts';

export function ratioChart(outcomes: readonly Outcome[]): Chart {
  const hasTarget = ({ atLeast }: Outcome): boolean => atLeast !== undefined;
  const inOrder = [...outcomes.filter(hasTarget), ...outcomes.filter((outcome) => !hasTarget(outcome))];
  const values = inOrder.flatMap((outcome) => {
    const { peer, ratio, atLeast, isMet } = outcome;
    return ratio === undefined
      ? []
      : [{ row: `${rowName(outcome)}: ${peer.name}`, ratio, atLeast, as: verdict(isMet), one: 1 }];
  });
  const y = {
    field: 'row',
    type: 'nominal',
    sort: values.map(({ row }) => row),
    axis: { title: null, labelLimit: 640, labelFontSize: 12 },
  } as const;
  const x = {
    field: 'ratio',
    type: 'quantitative',
    scale: { type: 'log' },
    axis: { title: 'times as fast as the peer', ...HORIZONTAL_AXIS },
  } as const;
  const color = {
    field: 'as',
    type: 'nominal',
    scale: { domain: VERDICTS, range: [PALETTE[0]!, PALETTE[1]!, PALETTE[7]!] },
    legend: { title: null, symbolType: 'circle' },
  } as const;
  const layer: Layer[] = [
    { mark: { type: 'rule', strokeWidth: 4, opacity: 0.4 }, encoding: { y, x, x2: { field: 'one' }, color } },
    { mark: { type: 'point', filled: true, size: 80, opacity: 1 }, encoding: { y, x, color } },
    {
      transform: [{ filter: 'isValid(datum.atLeast)' }],
      mark: { type: 'tick', thickness: 2.5, size: 18, color: INK },
      encoding: { y, x: { ...x, field: 'atLeast' } },
    },
    { mark: { type: 'rule', color: SOFT_INK, strokeWidth: 1 }, encoding: { x: { datum: 1 } } },
  ];
  return {
    title: {
      text: 'Podwire beside its peers',
      subtitle: 'Median of the ratios of all rounds; bars: what is to be reached',
    },
    data: { values },
    width: 480,
    height: { step: 24 },
    layer,
  };
}

const VERDICTS = ['reached', 'not reached', 'no target'];

function verdict(isMet: boolean | undefined): string {
  return VERDICTS[isMet === undefined ? 2 : isMet ? 0 : 1]!;
}

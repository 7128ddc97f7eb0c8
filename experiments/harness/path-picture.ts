// One picture of all ways in and out: a row per way, a box per network namespace that the first packet passes.

import { type Chart, INK, type Layer, PALETTE, SOFT_INK } from './chart.ts';

export interface PictureStop {
  readonly place: string;
  readonly kind: string;
  /** Small print below the place. */
  readonly note: string;
}

export interface PictureRow {
  readonly name: string;
  readonly stops: readonly PictureStop[];
  /** Behind the last box. */
  readonly end: string;
}

const COLUMN = 118;
const ROW = 54;
/** What of a column is box, the rest is arrow. */
const BOX = 0.86;

/** Rows in the order in which they are to be read; colours by kind, in the order of `kinds`. */
export function pathPicture(
  rows: readonly PictureRow[],
  { title, subtitle, kinds }: { readonly title: string; readonly subtitle: string; readonly kinds: readonly string[] },
): Chart {
  const columns = Math.max(...rows.map(({ stops }) => stops.length)) + END_COLUMNS;
  const boxes = rows.flatMap(({ stops }, row) =>
    stops.map((stop, i) => ({
      ...stop,
      left: i,
      right: i + BOX,
      top: row + 0.12,
      bottom: row + 0.88,
      middle: i + BOX / 2,
      row,
    })),
  );
  const arrows = boxes
    .filter(({ left }) => left > 0)
    .map(({ left, row }) => ({ from: left - 1 + BOX, to: left, y: row + 0.5 }));
  const ends = rows.map(({ stops, end }, row) => ({ x: stops.length + 0.02, y: row + 0.5, end }));
  const labels = rows.map(({ name }, row) => ({ x: -0.1, y: row + 0.5, name }));
  const positioned = (field: string, scale: object) => ({ field, type: 'quantitative' as const, axis: null, scale });
  const x = (field: string) => positioned(field, { domain: [-LABEL_COLUMNS, columns], nice: false });
  const y = (field: string) => positioned(field, { domain: [0, rows.length], reverse: true, nice: false });
  const color = {
    field: 'kind',
    type: 'nominal',
    scale: { domain: [...kinds], range: PALETTE.slice(0, kinds.length) },
    legend: { title: null, symbolType: 'square' },
  } as const;
  const layer: Layer[] = [
    {
      data: { values: boxes },
      mark: { type: 'rect', cornerRadius: 5, opacity: 0.2, stroke: INK, strokeWidth: 0 },
      encoding: { x: x('left'), x2: { field: 'right' }, y: y('top'), y2: { field: 'bottom' }, color },
    },
    {
      data: { values: boxes.map((box) => ({ ...box, y: box.row + (box.note === '' ? 0.5 : 0.36) })) },
      mark: { type: 'text', fontSize: 11.5, fontWeight: 'bold', color: INK },
      encoding: { x: x('middle'), y: y('y'), text: { field: 'place' } },
    },
    {
      data: { values: boxes.filter(({ note }) => note !== '').map((box) => ({ ...box, y: box.row + 0.66 })) },
      mark: { type: 'text', fontSize: 10.5, color: INK },
      encoding: { x: x('middle'), y: y('y'), text: { field: 'note' } },
    },
    {
      data: { values: arrows },
      mark: { type: 'rule', strokeWidth: 1.5, color: SOFT_INK },
      encoding: { x: x('from'), x2: { field: 'to' }, y: y('y') },
    },
    {
      data: { values: arrows },
      mark: {
        type: 'point',
        shape: 'triangle-right',
        filled: true,
        size: 38,
        opacity: 1,
        color: SOFT_INK,
        xOffset: -3,
      },
      encoding: { x: x('to'), y: y('y') },
    },
    {
      data: { values: ends },
      mark: { type: 'text', align: 'left', fontSize: 11, color: SOFT_INK },
      encoding: { x: x('x'), y: y('y'), text: { field: 'end' } },
    },
    {
      data: { values: labels },
      mark: { type: 'text', align: 'right', fontSize: 12.5, color: INK },
      encoding: { x: x('x'), y: y('y'), text: { field: 'name' } },
    },
  ];
  return {
    title: { text: title, subtitle },
    width: COLUMN * (columns + LABEL_COLUMNS),
    height: ROW * rows.length,
    layer,
  };
}

/** Room in front of the first box and behind the last one, in columns. */
const LABEL_COLUMNS = 1.7;
const END_COLUMNS = 1.5;

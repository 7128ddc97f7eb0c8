// Charts as files: a Vega-Lite specification becomes an SVG, or a PNG in the DejaVu fonts that come with us, so that the
// same chart has the same bytes on every machine. The one door to vega, vega-lite and resvg.

import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname } from 'node:path';
import { Resvg } from '@resvg/resvg-js';
import { Error as ERRORS_ONLY, logger, parse, textMetrics, type Config as VegaConfig, View } from 'vega';
import { type Config, compile, type TopLevelSpec } from 'vega-lite';
import { makeDirectory } from './output-path.ts';
import { cannot, UserError } from './user-error.ts';

/** A Vega-Lite specification without look: the theme is added when it is drawn. */
export type Chart = TopLevelSpec;
export type Layer = Extract<Chart, { layer: unknown }>['layer'][number];

/** Writes `<file>`, an .svg or a .png; without extension both. Returns the paths written. */
export async function writeChart(chart: Chart, file: string): Promise<string[]> {
  const extension = extname(file);
  if (!['', '.svg', '.png'].includes(extension)) throw new UserError(`${file}: expected a name ending in .svg or .png`);
  const svg = await renderSvg(chart);
  const files = extension === '' ? [`${file}.svg`, `${file}.png`] : [file];
  for (const path of files) writeImage(path, path.endsWith('.svg') ? svg : renderPng(svg));
  return files;
}

export async function renderSvg(chart: Chart): Promise<string> {
  // Warnings are about how a chart is written, which is our business and not that of who draws it.
  const { spec } = compile({ ...chart, config: THEME }, { logger: logger(ERRORS_ONLY) });
  const view = new View(parse(spec, LEGEND_LAYOUT), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

/** At twice the size, for sharp text on today's screens. */
export function renderPng(svg: string): Buffer {
  const options = { font: FONTS, fitTo: { mode: 'zoom' as const, value: 2 }, background: 'white' };
  return new Resvg(svg, options).render().asPng();
}

const FONT = 'DejaVu Sans';

const require = createRequire(import.meta.url);
const FONTS = {
  loadSystemFonts: false,
  defaultFontFamily: FONT,
  sansSerifFamily: FONT,
  fontFiles: ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((file) => require.resolve(`dejavu-fonts-ttf/ttf/${file}`)),
};

export const INK = '#222222';
export const SOFT_INK = '#555555';
const HAIRLINE = '#e4e4e4';

/** Colours that colour-blind readers tell apart (Okabe and Ito), the strongest first. */
export const PALETTE: readonly string[] = [
  ...['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#8c8c8c'],
];

/** Quantities along the bottom, read off at grid lines. */
export const HORIZONTAL_AXIS = {
  ...{ grid: true, domain: false, ticks: false },
  ...{ format: ',~r', tickCount: 6, labelFlush: false },
};

const THEME: Config = {
  background: 'white',
  padding: 20,
  font: FONT,
  view: { stroke: null },
  title: {
    ...{ anchor: 'start', color: INK, fontSize: 16, fontWeight: 'bold', offset: 14, frame: 'group' },
    ...{ subtitleColor: SOFT_INK, subtitleFontSize: 12, subtitlePadding: 6 },
  },
  axis: {
    ...{ domainColor: '#bbbbbb', gridColor: HAIRLINE, tickColor: '#bbbbbb', tickSize: 4 },
    ...{ labelColor: SOFT_INK, labelFontSize: 11, labelPadding: 5 },
    ...{ titleColor: INK, titleFontSize: 12, titleFontWeight: 'normal', titlePadding: 10 },
  },
  axisX: { grid: false },
  axisY: { domain: false, ticks: false },
  legend: {
    ...{ orient: 'top', direction: 'horizontal', columnPadding: 18, offset: 14, symbolSize: 90, symbolOpacity: 1 },
    ...{ labelColor: INK, labelFontSize: 12, titleColor: SOFT_INK, titleFontSize: 12, titleFontWeight: 'normal' },
    ...{ titleOrient: 'left', titlePadding: 10 },
  },
  header: { labelColor: INK, labelFontSize: 12, labelFontWeight: 'bold', labelAnchor: 'start', title: null },
  range: { category: [...PALETTE] },
};

/** Several legends stand in a row above the chart. Vega-Lite has no word for this, so it is told to Vega. */
const LEGEND_LAYOUT: VegaConfig = {
  legend: { layout: { top: { anchor: 'start', direction: 'horizontal', margin: 32, offset: 14 } } },
};

/** Vega lays out labels by the width of their text, which it can only guess without a browser. */
textMetrics.width = ({ fontSize = 11, fontWeight, limit = 0 }, text) => {
  const isBold = fontWeight === 'bold' || Number(fontWeight) >= 600;
  const key = `${isBold ? 'bold' : 'normal'} ${text}`;
  if (!widths.has(key)) widths.set(key, measureWidth(text, isBold));
  const width = widths.get(key)! * fontSize;
  return limit > 0 ? Math.min(width, limit) : width;
};

const widths = new Map<string, number>();

/** In multiples of the font size. */
function measureWidth(text: string, isBold: boolean): number {
  const escaped = text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  const weight = isBold ? 'bold' : 'normal';
  const attributes = `font-family="${FONT}" font-weight="${weight}" font-size="100" y="100"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg"><text ${attributes}>${escaped}</text></svg>`;
  return (new Resvg(svg, { font: FONTS }).getBBox()?.width ?? 0) / 100;
}

function writeImage(path: string, content: string | Buffer): void {
  try {
    makeDirectory(dirname(path));
    writeFileSync(path, content);
  } catch (error) {
    throw cannot('write', path, error);
  }
}

import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { renderPng, renderSvg } from './chart.ts';
import { latencyChart } from './latency-chart.ts';
import { loadChart } from './load-chart.ts';
import { csvChart, plotCsv } from './plot.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-plot-'));
const PNG_SIGNATURE = '89504e470d0a1a0a';

/** A result with 4 x 2 x 2 variants and 3 replications; rules grow with services, latency hardly does. */
const rows = [10, 100, 1_000, 10_000].flatMap((services) =>
  ['iptables', 'nftables'].flatMap((proxy) =>
    ['new', 'kept'].flatMap((connection) =>
      [1, 2, 3].map((replication) => ({
        ...{ services: `${services}`, proxy, connection, replication: `${replication}`, seed: `1/${replication}` },
        rulesPerRequest: `${proxy === 'iptables' ? services * 8 : 12}`,
        latencyUs: `${40 + services / 1_000 + replication}`,
      })),
    ),
  ),
);
const table = { file: 'file.csv', columns: Object.keys(rows[0]!), rows };

let warn: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  warn = vi.spyOn(console, 'warn');
});
afterEach(() => {
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

/** The texts of a chart, in the order in which they are drawn. */
async function textsOf(chart: Parameters<typeof renderSvg>[0]): Promise<string[]> {
  return [...(await renderSvg(chart)).matchAll(/<text[^>]*>([^<]*)/g)].map((match) => match[1]!);
}

const marksOf = (chart: object) => JSON.stringify(chart).match(/"type":"(line|bar|point)"/g);

describe('what is drawn follows from the columns', () => {
  test('numeric levels give lines, on a logarithmic axis with a tick per level', async () => {
    const chart = csvChart(table, { x: 'services', y: 'latencyUs', by: 'proxy' });
    expect(marksOf(chart)).toEqual(['"type":"line"', '"type":"point"']);
    const texts = await textsOf(chart);
    expect(texts).toEqual(expect.arrayContaining(['10', '100', '1,000', '10,000', 'services', 'latency (µs)']));
    expect(texts).toEqual(expect.arrayContaining(['Latency by services', 'proxy', 'iptables', 'nftables']));
  });

  test('names give bars', () => {
    expect(marksOf(csvChart(table, { x: 'proxy', y: 'latencyUs' }))).toEqual(['"type":"bar"']);
  });

  test('a factor that follows from those shown gets no panels of its own', () => {
    const columns = ['replication', 'seed', 'servicePort', 'protocol', 'path', 'latencyUs'];
    const rows = ['web TCP', 'db TCP', 'dns UDP'].flatMap((port, index) =>
      ['same node', 'other node'].map((path) => {
        const [servicePort = '', protocol = ''] = port.split(' ');
        return { replication: '1', seed: '1/1', servicePort, protocol, path, latencyUs: `${50 + index}` };
      }),
    );
    const services = { file: 'services-latency.csv', columns, rows };
    expect(csvChart(services, { x: 'servicePort', y: 'latencyUs', by: 'path' })).not.toHaveProperty('facet');
    expect(csvChart(services, { x: 'path', y: 'latencyUs' })).toHaveProperty('facet');
  });

  test('names give points where the values span more than two decades', async () => {
    const chart = csvChart(table, { x: 'proxy', y: 'rulesPerRequest' });
    expect(marksOf(chart)).toEqual(['"type":"point"']);
    // From 12 rules with nftables to 80,000 with iptables.
    expect(await textsOf(chart)).toEqual(expect.arrayContaining(['10', '100', '1,000', '10,000', '100,000']));
  });

  test('a measure against a measure gives a dot per run', async () => {
    const chart = csvChart(table, { x: 'rulesPerRequest', y: 'latencyUs', by: 'connection' });
    expect(marksOf(chart)).toEqual(['"type":"point"']);
    const dots = (await renderSvg(chart)).match(/aria-roledescription="point"/g);
    expect(dots).toHaveLength(rows.length);
  });

  test('a factor that is on no axis gets a panel per level', async () => {
    const texts = await textsOf(csvChart(table, { x: 'services', y: 'latencyUs' }));
    expect(texts.filter((text) => text.startsWith('proxy: '))).toEqual([
      'proxy: iptables, connection: new',
      'proxy: iptables, connection: kept',
      'proxy: nftables, connection: new',
      'proxy: nftables, connection: kept',
    ]);
  });
});

test('a point is the mean of its replications, its line spans the confidence interval', () => {
  const few = { ...table, rows: rows.slice(0, 3) };
  const { data } = csvChart(few, { x: 'services', y: 'latencyUs' }) as { data: object };
  // 41.01, 42.01 and 43.01: standard deviation 1, t(2) = 4.303, so 4.303 / sqrt(3) = 2.484.
  expect(data).toEqual({
    values: [
      expect.objectContaining({ x: '10', y: 42.01, low: expect.closeTo(39.526, 3), high: expect.closeTo(44.494, 3) }),
    ],
  });
});

describe('a chart that cannot be drawn is refused', () => {
  test('for a column that is missing', () => {
    const small = { file: 'file.csv', columns: ['a', 'b', 'c'], rows: [{ a: '1', b: 'x', c: '2' }] };
    expect(() => csvChart(small, { x: 'foo', y: 'a' })).toThrow('file.csv: no column "foo"; it has a, b, c');
    expect(() => csvChart(small, { x: 'a', y: 'c', by: 'foo' })).toThrow('file.csv: no column "foo"; it has a, b, c');
  });

  test('for a vertical axis without numbers', () => {
    expect(() => csvChart(table, { x: 'services', y: 'proxy' })).toThrow('file.csv: column "proxy" holds no numbers');
  });

  test('for more panels than fit', () => {
    const wide = { ...table, rows: rows.map((row, i) => ({ ...row, connection: `${i % 13}` })) };
    expect(() => csvChart(wide, { x: 'proxy', y: 'latencyUs', by: 'services' })).toThrow(
      'file.csv: the other factors would need 13 panels; at most 12 fit',
    );
  });

  test('for another kind of file', async () => {
    const file = join(directory, 'small.csv');
    writeFileSync(file, 'a,b\n1,2\n');
    await expect(plotCsv({ file, x: 'a', y: 'b', out: 'chart.pdf' })).rejects.toThrow(
      'chart.pdf: expected a name ending in .svg or .png',
    );
  });
});

test('a name without extension gives an SVG and a PNG, with the same bytes each time', async () => {
  const file = join(directory, 'result.csv');
  writeFileSync(file, `${table.columns.join()}\n${rows.map((row) => `${Object.values(row).join()}\n`).join('')}`);
  const draw = async (name: string) => {
    const paths = await plotCsv({ file, x: 'services', y: 'latencyUs', by: 'proxy', out: join(directory, name) });
    expect(paths).toEqual([join(directory, `${name}.svg`), join(directory, `${name}.png`)]);
    return paths.map((path) => readFileSync(path));
  };
  const [svg, png] = (await draw('one')) as [Buffer, Buffer];
  expect(svg.toString()).toMatch(/^<svg .*DejaVu Sans/s);
  expect(png.toString('hex', 0, 8)).toBe(PNG_SIGNATURE);
  const [otherSvg, otherPng] = (await draw('two')) as [Buffer, Buffer];
  expect(otherSvg.equals(svg) && otherPng.equals(png)).toBe(true);
});

test('the latency chart shows every service port, path and percentile', async () => {
  const percentiles = { p50Us: 40, p90Us: 60, p99Us: 200 };
  const chart = latencyChart([
    { servicePort: 'shop/web:http', path: 'same node', ...percentiles },
    { servicePort: 'shop/web:http', path: 'other node', ...percentiles },
    { servicePort: 'kube-system/kube-dns:dns', path: 'same node', ...percentiles },
  ]);
  expect(await textsOf(chart)).toEqual(
    expect.arrayContaining([
      ...['shop/web:http', 'kube-system/kube-dns:dns', 'same node', 'other node', 'p50', 'p90', 'p99', 'latency (µs)'],
    ]),
  );
});

test('the load chart has a bar per endpoint, and a mark where a share is expected', async () => {
  const chart = loadChart([
    { service: 'shop/web:http', endpoint: 'web-0', requests: 510, expectedRequests: 500 },
    { service: 'shop/web:http', endpoint: 'web-1', requests: 490, expectedRequests: 500 },
    { service: 'shop/db:sql', endpoint: 'db-0', requests: 30 },
  ]);
  const svg = await renderSvg(chart);
  expect(svg.match(/aria-roledescription="bar"/g)).toHaveLength(3);
  expect(svg.match(/aria-roledescription="tick"/g)).toHaveLength(2);
  expect(await textsOf(chart)).toEqual(
    expect.arrayContaining(['shop/web:http', 'shop/db:sql', 'web-0', 'web-1', 'db-0', 'requests', 'expected share']),
  );
  expect(renderPng(svg).length).toBeGreaterThan(5_000);
});

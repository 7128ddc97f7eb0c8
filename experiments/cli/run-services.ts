// podwire run services: the main job. Requests to every Service of some manifests, as tables and pictures.

import { rmSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { PROXY_MODES } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { CLUSTER_IP_FAMILIES, formatRanges } from '../../models/kube/ranges.ts';
import type { TableRow } from '../harness/experiment.ts';
import { checkWritable } from '../harness/output-path.ts';
import { type Cell, renderTable } from '../harness/report.ts';
import { UserError } from '../harness/user-error.ts';
import { Survey } from '../service-survey.ts';
import services, { type ServicesOptions } from '../services.ts';
import { type Command, type CommandContext, examples, wholeNumber } from './command-line.ts';
import {
  addManifestOptions,
  clusterOf,
  type ManifestOptions,
  rangesOf,
  readManifestFiles,
} from './manifest-options.ts';
import { addSweepOptions, type FinishedSweep, type RunOptions, runExperiment } from './run.ts';

interface RunServicesOptions extends ManifestOptions, RunOptions {
  readonly rate: number;
  readonly duration: number;
  readonly pcap?: string;
}

export const SERVICES = {
  name: 'services',
  question: 'How long do requests to each Service of my manifests take, and how do they spread over its endpoints?',
  addTo(run: Command, context: CommandContext): void {
    addSweepOptions(addManifestOptions(run.command('services')))
      .description('Ask every port of every Service from every node (node ports from outside, too).')
      .option(
        '--rate <n>',
        'requests per second from each client to each service port',
        wholeNumber({ to: 1_000_000 }),
        200,
      )
      .option('--duration <ms>', 'measured virtual time', wholeNumber({ to: 86_400_000 }), 3_000)
      .option('--pcap <file>', "also write a pcapng of the first run, with the nodes' network interfaces")
      .addHelpText(
        'after',
        examples(
          'podwire run services',
          'podwire run services -f my-manifests.yaml --duration 10000 --out results/mine',
          `podwire run services --set proxy=${PROXY_MODES.join()}`,
          `podwire run services --set ipFamily=${CLUSTER_IP_FAMILIES.join()}`,
          'kubectl get nodes,pods,services,endpointslices -A -o json | podwire run services -f -',
        ),
      )
      .action(async (_: unknown, command: Command) =>
        runServices(command.optsWithGlobals<RunServicesOptions>(), context),
      );
  },
};

async function runServices(options: RunServicesOptions, context: CommandContext): Promise<void> {
  const { nodes, rate: perSecond, duration: durationMs, pcap } = options;
  const files = readManifestFiles(options);
  // What is wrong comes out here, before anything is written.
  const survey = new Survey(clusterOf(options, context, files), { perSecond });
  if (survey.notAsked.length > 0) context.stderr.write(`note: not asked: ${survey.notAsked.join(', ')}\n`);
  if (survey.servicePorts === 0)
    throw new UserError('the manifests hold no Service to ask; expected one with a ClusterIP');
  if (pcap !== undefined) checkWritable(pcap);
  const moduleOptions: ServicesOptions = {
    files,
    nodes,
    ranges: formatRanges(rangesOf(options)),
    perSecond,
    durationMs,
    pcap: pcap && resolve(pcap),
  };
  const module = new URL(`../services${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url).href;
  const sweep = await runExperiment(
    { experiment: services(moduleOptions), module, options: moduleOptions },
    options,
    context,
  );
  printTables(sweep, context);
  if (context.exitCode === 0) await drawCharts(sweep, options.out, context);
}

function printTables({ record, tables, wallSeconds }: FinishedSweep, { stdout }: CommandContext): void {
  const isTerminal = stdout.isTTY === true;
  const print = (title: string, rows: readonly TableRow[]): void => {
    if (rows.length === 0) return;
    const columns = Object.keys(rows[0]!);
    stdout.write(
      `\n${title}\n\n${renderTable({ columns, rows: rows.map((row): Cell[] => columns.map((column) => row[column])), isTerminal })}`,
    );
  };
  print('Latency by service port and path', tables.rows('latency'));
  print('Load by endpoint', tables.rows('load'));
  print('Failed requests', tables.rows('failures'));
  print(
    'Dropped frames',
    [...record.drops].map(([reason, frames]) => ({ reason, frames })),
  );
  const { sent, delivered, dropped, inFlight } = record.frames;
  const rate = Math.round(delivered / wallSeconds).toLocaleString('en-US');
  stdout.write(
    `\n${sent} frames sent = ${delivered} delivered + ${dropped} dropped + ${inFlight} in flight; ${rate} packets per wall second\n`,
  );
}

async function drawCharts({ tables }: FinishedSweep, directory: string, { stdout }: CommandContext): Promise<void> {
  // Imported here because the chart library takes longer to load than other commands take to run.
  const { writeChart } = await import('../harness/chart.ts');
  const { latencyChart } = await import('../harness/latency-chart.ts');
  const { loadChart } = await import('../harness/load-chart.ts');
  const latency = tables.rows('latency').map((row) => ({
    ...{ servicePort: `${text(row, 'servicePort')}${modeOf(row)}`, path: text(row, 'path') },
    ...{ p50Us: number(row, 'latencyP50Us'), p90Us: number(row, 'latencyP90Us'), p99Us: number(row, 'latencyP99Us') },
  }));
  const loadRows = tables.rows('load');
  const serviceOf = (row: TableRow) => `${text(row, 'servicePort')}${FROM[text(row, 'from')] ?? ''}${modeOf(row)}`;
  const totals = new Map<string, number>();
  for (const row of loadRows) totals.set(serviceOf(row), (totals.get(serviceOf(row)) ?? 0) + number(row, 'requests'));
  const load = loadRows.map((row) => ({
    service: serviceOf(row),
    endpoint: `${basename(text(row, 'endpoint'))} on ${text(row, 'node')}`,
    requests: number(row, 'requests'),
    expectedRequests:
      row.expectedPercent === undefined
        ? undefined
        : ((totals.get(serviceOf(row)) ?? 0) * number(row, 'expectedPercent')) / 100,
  }));
  for (const name of CHARTS)
    for (const type of ['svg', 'png']) rmSync(join(directory, `${name}.${type}`), { force: true });
  const paths = [
    ...(latency.length === 0 ? [] : await writeChart(latencyChart(latency), join(directory, CHARTS[0]))),
    ...(load.length === 0 ? [] : await writeChart(loadChart(load), join(directory, CHARTS[1]))),
  ];
  if (paths.length > 0) stdout.write(`\n${paths.join('\n')}\n`);
}

/** Where there is nothing to draw, the chart of an earlier run must not stand for it. */
const CHARTS = ['services-latency', 'services-load'] as const;

const FROM: Readonly<Record<string, string>> = { outside: ' from outside', 'load balancer': ' by load balancer' };

/** Where clusters of several modes of kube-proxy, or IP families, are compared. */
const modeOf = ({ proxy, ipFamily, cni }: TableRow): string =>
  [proxy, ipFamily, cni].flatMap((level) => (level === undefined ? [] : [`, ${level}`])).join('');

const text = (row: TableRow, column: string): string => String(row[column] ?? '');
const number = (row: TableRow, column: string): number => Number(row[column] ?? 0);

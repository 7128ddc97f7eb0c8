// podwire paths: every way in, through and out of a cluster, as a table, and on demand as one picture.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProxyMode } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { PROXY_MODES } from '../../models/kube/kube-proxy/proxy-mode.ts';
import type { IpFamily } from '../../models/packet/ip-address.ts';
import { writeChart } from '../harness/chart.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { type PictureRow, pathPicture } from '../harness/path-picture.ts';
import { type Stop, type WalkedPath, walkPaths } from '../transport-paths.ts';
import { type Command, type CommandContext, examples, inWords, oneOf } from './command-line.ts';
import { addFamilyChoice, type FamilyChoice } from './manifest-options.ts';

interface PathsOptions extends FamilyChoice {
  readonly proxy: ProxyMode;
  readonly picture?: string;
  readonly json?: true;
}

export const WAYS = join('experiments', 'manifests', 'ways.yaml');

export function addPaths(program: Command, context: CommandContext): void {
  addFamilyChoice(program.command('paths'), 'IP family of the requests')
    .description(
      'Walk every way in, through and out of a small cluster: who is passed, what NAT does, whom the server sees.',
    )
    .option('--proxy <mode>', `kube-proxy's mode: ${inWords(PROXY_MODES)}`, oneOf(PROXY_MODES), 'iptables')
    .option('--picture <file>', 'also draw it: an .svg or a .png, without extension both')
    .option('--json', 'as JSON')
    .addHelpText('after', examples('podwire paths', 'podwire paths --family 6 --picture ways.svg'))
    .action(async ({ family = 4, proxy, picture, json }: PathsOptions) => {
      const file = { name: WAYS, text: readFileSync(join(PACKAGE_ROOT, WAYS), 'utf8') };
      const paths = walkPaths(file, { family, proxy });
      if (json) context.stdout.write(`${JSON.stringify(paths, undefined, 2)}\n`);
      else context.stdout.write(`${paths.map((path) => toText(path, proxy)).join('\n\n')}\n`);
      if (picture === undefined) return;
      for (const path of await writeChart(chartOf(paths, { family, proxy }), picture))
        context.stderr.write(`wrote ${path}\n`);
    });
}

function toText(
  { name, from, to, family, stops, server, sourceSeen, forwardedFor, latencyUs }: WalkedPath,
  proxy: ProxyMode,
): string {
  const forwarded = forwardedFor === undefined ? '' : `, in X-Forwarded-For ${forwardedFor}`;
  return [
    `${name}: ${server} saw ${sourceSeen}${forwarded}, ${latencyUs.toFixed(1)} µs`,
    `  ${stops.map(describeStop).join(' ─▶ ')}`,
    `  podwire trace -f ${WAYS} --ip-family dual --family ${family}${proxy === 'iptables' ? '' : ` --proxy ${proxy}`} --from ${from} --to ${to}`,
  ].join('\n');
}

const describeStop = ({ place, changes }: Stop): string =>
  changes.length === 0 ? place : `${place} (${changes.join(', ')})`;

/** The switch is between any two machines: an arrow says as much. */
function chartOf(
  paths: readonly WalkedPath[],
  { family, proxy }: { readonly family: IpFamily; readonly proxy: ProxyMode },
) {
  const rows = paths.map(
    ({ name, stops, sourceSeen, forwardedFor }): PictureRow => ({
      name,
      stops: stops
        .filter(({ place }) => place !== 'fabric')
        .map(({ place, kind, changes }) => ({
          place: shortName(place, kind),
          kind: KINDS[kind],
          note: changes.join(' + '),
        })),
      end: `sees ${sourceSeen}${forwardedFor === undefined ? '' : `, for ${forwardedFor}`}`,
    }),
  );
  return pathPicture(rows, {
    title: 'Ways in, through and out of a cluster',
    subtitle: `First packet of each connection, IPv${family}, kube-proxy in mode ${proxy}; the server sees the source at the end of the row`,
    kinds: Object.values(KINDS),
  });
}

const KINDS: Readonly<Record<Stop['kind'], string>> = {
  pod: 'pod',
  proxy: 'pod of a proxy',
  node: 'node',
  outside: 'outside',
  network: 'router or load balancer',
};

function shortName(place: string, kind: Stop['kind']): string {
  if (kind === 'proxy') return place.startsWith('ingress-system/') ? 'ingress proxy' : 'gateway proxy';
  return place.slice(place.indexOf('/') + 1);
}

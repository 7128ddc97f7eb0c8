import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { podwire, ROOT, TemporaryDirectory } from './podwire.fixture.ts';

const LINES = /^(.*): (\S+) saw (\S+?)(?:, in X-Forwarded-For (\S+))?, [\d.]+ µs\n {2}(.*)\n {2}podwire (trace .*)$/gm;

/** One row per path: who saw whom, and the stops, with `#` for what is drawn by chance. */
async function rowsOf(args: readonly string[]) {
  const { exitCode, stdout, stderr } = await podwire(['paths', ...args]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return [...stdout.matchAll(LINES)].map(([, name, server, source, forwardedFor, stops, command]) => ({
    ...{ name, server, source, forwardedFor, stops: stops!.split(' ─▶ '), command: command!.split(' ') },
  }));
}

/** What each way does to addresses, in the order of the list. */
const NAT = [[], [], [], ['DNAT'], [], ['DNAT, SNAT'], ['DNAT, SNAT'], ['DNAT, SNAT'], ['DNAT, SNAT'], ['SNAT']];

test.each([
  { family: '4', client: '10.244.0.2', loopback: '127.0.0.1', node: /^192\.168\.0\.1[123]$/ },
  { family: '6', client: 'fd00:10:244::2', loopback: '::1', node: /^fd00:192:168::[bcd]$/ },
])(
  'all ways are walked in IPv$family, and `podwire trace` shows each of them',
  { timeout: 120_000 },
  async ({ family, client, loopback, node }) => {
    const rows = await rowsOf(['--family', family]);
    expect(rows.map(({ name }) => name)).toEqual([
      ...['container to container', 'pod to pod, same node', 'pod to pod, other node', 'pod to Service', 'node to pod'],
      ...[
        'outside to NodePort',
        'outside to LoadBalancer',
        'outside to Ingress',
        'outside to Gateway',
        'pod to outside',
      ],
    ]);
    expect(rows.map(({ stops }) => stops.flatMap((stop) => /\((.*)\)/.exec(stop)?.[1] ?? []))).toEqual(NAT);
    expect(rows.slice(0, 4).map(({ source }) => source)).toEqual([loopback, client, client, client]);
    for (const { source } of [rows[4]!, rows[5]!, rows[6]!, rows[9]!]) expect(source).toMatch(node);
    for (const { forwardedFor } of [rows[7]!, rows[8]!]) expect(forwardedFor).toMatch(node);
    for (const { command, server } of rows) {
      const { exitCode, stdout, stderr } = await podwire(
        command.map((word) => (word.endsWith('.yaml') ? `${ROOT}/${word}` : word)),
      );
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
      expect(stdout.trimEnd().split('\n').at(-1)).toMatch(new RegExp(`^answered by ${server} after `));
    }
  },
);

test.each(['nftables', 'ipvs'])(
  'in mode %s kube-proxy does the same to addresses',
  { timeout: 60_000 },
  async (proxy) => {
    const rows = await rowsOf(['--proxy', proxy]);
    expect(rows.map(({ stops }) => stops.flatMap((stop) => /\((.*)\)/.exec(stop)?.[1] ?? []))).toEqual(NAT);
  },
);

test('the committed picture is the one that the command draws', { timeout: 60_000 }, async () => {
  const directory = new TemporaryDirectory();
  const picture = directory.join('ways.svg');
  expect((await podwire(['paths', '--picture', picture])).exitCode).toBe(0);
  expect(readFileSync(picture, 'utf8')).toBe(readFileSync(`${ROOT}/results/ways/transport-paths.svg`, 'utf8'));
});

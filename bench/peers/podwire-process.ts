// Podwire as one contender of several: a process that measures one thing, prints a name and a number per line, and ends.
//
//   node podwire-process.js echo NODES PODS_PER_NODE PACKETS PROTOCOL SERVICES [CLIENTS]    `packets 464601`, `undisturbed 501233`
//   node podwire-process.js hold LIST MIX SIZE                                    `SIZE 23696682`
//
// Packets are counted per second of CPU time of the whole process, with the threads that compile and collect garbage:
// what one core needs, also while others use the machine.

import { messageOf } from '../../experiments/harness/user-error.ts';
import { echoRates } from '../end-to-end.bench.ts';
import { type DelayMix, delaysOf, HOLDS_PER_CALL, heapHolder, pendingOf, wheelHolder } from '../event-list.bench.ts';

const TIME_MS = 60;
/** On a busy machine most of that time may be other programs'. */
const SAMPLES = 101;

try {
  const [task, ...args] = process.argv.slice(2);
  if (task === 'echo') echo(args);
  else if (task === 'hold') hold(args);
  else throw new RangeError(`task "${task}"; expected echo or hold`);
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`); // in one line, for its row
  process.exitCode = 1;
}

function echo([nodes, podsPerNode, packets, protocol, services, clients]: readonly string[]): void {
  const rates = echoRates({
    nodes: Number(nodes),
    podsPerNode: Number(podsPerNode),
    packets: Number(packets),
    protocol: protocol as 'udp' | 'tcp',
    services: Number(services),
    ...(clients !== undefined && { clients: Number(clients) }),
    seconds: cpuSeconds,
  });
  for (const [name, rate] of Object.entries(rates)) print(name, rate);
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** One list per process: see the note on the two loops. */
function hold([list, mix, size]: readonly string[]): void {
  const holder = list === 'heap-js' ? heapHolder : wheelHolder;
  const call = holder(pendingOf(mix as DelayMix, Number(size)), delaysOf(mix as DelayMix));
  print(size!, HOLDS_PER_CALL / medianSeconds(call));
}

/** Of samples as short as those of hold.h, which few interruptions hit. */
function medianSeconds(call: () => void): number {
  const samples: number[] = [];
  const begin = performance.now();
  while (performance.now() - begin < TIME_MS || samples.length < SAMPLES) {
    const before = performance.now();
    call();
    samples.push((performance.now() - before) / 1_000);
  }
  return samples.sort((a, b) => a - b)[samples.length >> 1]!;
}

function print(name: string, value: number): void {
  process.stdout.write(`${name} ${Math.round(value)}\n`);
}

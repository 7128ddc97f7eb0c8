// Podwire as one contender of several: a process that measures one thing, prints a name and a number per line, and ends.
//
//   node podwire-process.js echo NODES PODS_PER_NODE PACKETS PROTOCOL SERVICES    `packets 464601`
//   node podwire-process.js hold LIST MIX SIZE...                                 `SIZE 23696682`, for each
//
// Packets are counted per second of CPU time of the whole process, with the threads that compile and collect garbage:
// what one core needs, also while others use the machine.

import { packetsPerSecond } from '../end-to-end.bench.ts';
import { type DelayMix, delaysOf, HOLDS_PER_CALL, heapHolder, wheelHolder } from '../event-list.bench.ts';
import { measure } from '../measure.ts';

const [task, ...args] = process.argv.slice(2);
if (task === 'echo') echo(args);
else if (task === 'hold') await hold(args);
else throw new RangeError(`task "${task}"; expected echo or hold`);

function echo([nodes, podsPerNode, packets, protocol, services]: readonly string[]): void {
  const rate = packetsPerSecond({
    nodes: Number(nodes),
    podsPerNode: Number(podsPerNode),
    packets: Number(packets),
    protocol: protocol as 'udp' | 'tcp',
    services: Number(services),
    seconds: cpuSeconds,
  });
  print('packets', rate);
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** One list per process: see the note on the two loops. */
async function hold([list, mix, ...sizes]: readonly string[]): Promise<void> {
  const delays = delaysOf(mix as DelayMix);
  const holder = list === 'heap-js' ? heapHolder : wheelHolder;
  for (const size of sizes) {
    const variants = { list: holder(Number(size), delays) };
    const { nsPerOperation } = (await measure(variants, { operationsPerCall: HOLDS_PER_CALL, rounds: 1 })).list;
    print(size, 1e9 / nsPerOperation);
  }
}

function print(name: string, value: number): void {
  process.stdout.write(`${name} ${Math.round(value)}\n`);
}

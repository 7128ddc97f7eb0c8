// One worker of parallel.bench.ts: builds the cluster, lets it warm up together with the others, and measures.

import { parentPort, workerData } from 'node:worker_threads';
import { Part, type PartStart } from '../engine/parallel/part.ts';
import { ms, us } from '../engine/time.ts';
import { buildEcho } from './end-to-end.bench.ts';

export interface EchoOfPart {
  readonly nodes: number;
  readonly podsPerNode: number;
  readonly cpusPerNode: number;
  readonly everyUs: number;
  readonly start: PartStart;
}

export interface PartMeasured {
  readonly packets: number;
  readonly seconds: number;
}

/** Each worker compiles for itself: as many packets as end-to-end.bench.ts takes for that. */
const WARM_UP = ms(20);
const MEASURED = ms(40);

const { start, everyUs, ...size } = workerData as EchoOfPart;
// Nobody asks for results at the end, so no mail is sent.
const noMail = { send() {}, receive: () => [] };
const part = start.workers === 1 ? {} : { part: new Part(start, noMail) };
const { cluster, delivered } = buildEcho({ ...size, every: us(everyUs), ...part });
cluster.runFor(WARM_UP);
const before = delivered();
const began = process.hrtime.bigint();
cluster.runFor(MEASURED);
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
cluster.assertConserved();
const measured: PartMeasured = { packets: delivered() - before, seconds };
parentPort?.postMessage(measured);

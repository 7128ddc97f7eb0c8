// How far a sweep is, on a terminal; nothing when stderr is piped. The one door to cli-progress.

import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** One more run, or what else is counted, has finished. */
  step(): void;
  stop(): void;
}

export function startProgress(
  name: string,
  { total, unit = 'runs', isTerminal }: { total: number; unit?: string; isTerminal: boolean },
): Progress {
  if (!isTerminal) return { step() {}, stop() {} };
  const bar = new SingleBar(
    {
      format: `${name} {bar} {value}/{total} ${unit}, {eta_formatted} left`,
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      stream: process.stderr,
    },
    Presets.shades_classic,
  );
  bar.start(total, 0);
  return { step: () => bar.increment(), stop: () => bar.stop() };
}

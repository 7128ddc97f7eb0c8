// A random stream under whose draws every outcome is tried in turn: the same work is repeated, each time with other
// answers, until all have been given. Depth first, so that runs that begin alike follow each other.

import { RandomStream } from '../../../engine/random.ts';

/** A draw with several possible answers, and the answer of this run. */
export interface Draw {
  /** Of this answer; never 0. */
  readonly probability: number;
  /** Whatever {@link BranchingRandom.mark} returned when it was asked. */
  readonly mark: number;
}

interface OpenDraw {
  readonly probabilities: readonly number[];
  readonly answers: readonly number[];
  choice: number;
  mark: number;
}

/** What a probability of 1 is in 31 bits. */
const CERTAIN = 2 ** 31;

export class BranchingRandom extends RandomStream {
  readonly #draws: OpenDraw[] = [];
  #next = 0;
  /** Where in the work a draw happens, for whoever shows the branches. */
  mark: () => number = () => 0;

  constructor() {
    super('not drawn from');
  }

  /** The draws of this run, in order. Certain ones are none. */
  get draws(): Draw[] {
    return this.#draws.map(({ probabilities, choice, mark }) => ({ probability: probabilities[choice]!, mark }));
  }

  /** Probability of the run's answers together. */
  get probability(): number {
    return this.draws.reduce((product, { probability }) => product * probability, 1);
  }

  /** Begins the next run: the last draw that can be answered otherwise is. False when everything has been tried. */
  advance(): boolean {
    this.#next = 0;
    for (let last = this.#draws.pop(); last !== undefined; last = this.#draws.pop()) {
      if (++last.choice === last.answers.length) continue;
      this.#draws.push(last);
      return true;
    }
    return false;
  }

  override chance31(threshold: number): boolean {
    if (threshold <= 0) return false;
    if (threshold >= CERTAIN) return true;
    const probability = threshold / CERTAIN;
    return this.#draw(() => ({ answers: [1, 0], probabilities: [probability, 1 - probability] })) === 1;
  }

  override int(count: number): number {
    if (count <= 1) return super.int(count);
    return this.#draw(() => ({
      answers: Array.from({ length: count }, (_, answer) => answer),
      probabilities: new Array<number>(count).fill(1 / count),
    }));
  }

  #draw(open: () => Pick<OpenDraw, 'answers' | 'probabilities'>): number {
    const draw = (this.#draws[this.#next] ??= { ...open(), choice: 0, mark: 0 });
    this.#next++;
    draw.mark = this.mark();
    return draw.answers[draw.choice]!;
  }
}

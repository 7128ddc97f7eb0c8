// Several agents that ask one kernel side by side. An agent mostly waits: for tools, and for grace periods of RCU when
// rules are replaced or namespaces go.

import type { Outcome, ParityCase } from '../case.ts';
import type { Judge } from '../judge.ts';
import { KernelRunner } from './runner.ts';

/** Answers come in any order. A case goes to the agent with the fewest before it. */
export class KernelPool implements Judge {
  readonly #agents: readonly Agent[];

  constructor(size: number) {
    this.#agents = Array.from({ length: size }, () => ({ runner: new KernelRunner(), busy: 0 }));
  }

  get size(): number {
    return this.#agents.length;
  }

  async run(parityCase: ParityCase): Promise<Outcome> {
    const agent = this.#agents.reduce((best, other) => (other.busy < best.busy ? other : best));
    agent.busy++;
    try {
      return await agent.runner.run(parityCase);
    } finally {
      agent.busy--;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#agents.map(({ runner }) => runner.close()));
  }
}

interface Agent {
  readonly runner: KernelRunner;
  busy: number;
}

// The kernel of this machine as a judge of cases: starts the agent beside this file and keeps it for many cases.
//
// The agent is Python because Node has no packet sockets and cannot enter a namespace. It needs its standard library only.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PACKAGE_ROOT } from '../../../experiments/harness/package.ts';
import type { Outcome, ParityCase } from '../case.ts';

/** Not compiled: it stays where it is when this module stands in `dist/`. */
const AGENT = join(PACKAGE_ROOT, 'models', 'parity', 'kernel', 'agent.py');

/** The kernel did not run a case. For rules that a tool refused, `node` says whose, and the message is the tool's. */
export class KernelRefusal extends Error {
  readonly kind: 'rules' | 'case';
  readonly node: string | undefined;

  constructor({ kind, node, message }: AgentError) {
    super(node === undefined ? message : `${node}: ${message}`);
    this.name = 'KernelRefusal';
    this.kind = kind;
    this.node = node;
  }
}

export type KernelProbe =
  | { readonly ok: true; readonly version: string }
  /** What this machine lacks, each with what it is needed for. */
  | { readonly ok: false; readonly missing: readonly string[] };

/** Runs cases one after the other; several may be asked for at once. Networks are kept between cases until `close()`. */
export class KernelRunner {
  readonly #agent: ChildProcessWithoutNullStreams;
  readonly #waiting: Waiting[] = [];
  readonly #ended: Promise<void>;
  #complaints = '';
  #closing = false;

  /** Whether the kernel of this machine can be asked, or what that takes. */
  static async probe(): Promise<KernelProbe> {
    const runner = new KernelRunner();
    try {
      const { probe } = await runner.#ask({ probe: true });
      if (probe === undefined) throw new Error('the agent did not answer a probe');
      const { version, missing } = probe;
      return missing.length === 0 ? { ok: true, version: `Linux ${version}` } : { ok: false, missing };
    } catch (error) {
      return { ok: false, missing: [`python3: ${(error as Error).message}`] };
    } finally {
      await runner.close();
    }
  }

  constructor() {
    this.#agent = spawn('python3', ['-B', AGENT], { stdio: 'pipe' });
    this.#agent.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaints += text;
    });
    this.#agent.stdin.on('error', () => {}); // an agent that ended is reported below
    createInterface({ input: this.#agent.stdout }).on('line', (line) => this.#answer(JSON.parse(line) as Answer));
    this.#ended = new Promise((resolve) => {
      this.#agent.on('error', (error) => this.#fail(error.message, resolve));
      this.#agent.on('close', (status, signal) => this.#fail(this.#lastWords(status, signal), resolve));
    });
  }

  async run(parityCase: ParityCase): Promise<Outcome> {
    const { outcome, error } = await this.#ask({ case: parityCase });
    if (error !== undefined) throw new KernelRefusal(error);
    if (outcome === undefined) throw new Error('the agent answered neither an outcome nor an error');
    return outcome;
  }

  /** Ends the agent; its networks end with it. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#agent.stdin.end();
    await this.#ended;
  }

  #ask(request: object): Promise<Answer> {
    if (this.#closing) return Promise.reject(new Error('this kernel runner is closed'));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#agent.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Answers come in the order of requests. */
  #answer(answer: Answer): void {
    this.#waiting.shift()?.resolve(answer);
  }

  #fail(reason: string, ended: () => void): void {
    this.#closing = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(reason));
    ended();
  }

  #lastWords(status: number | null, signal: NodeJS.Signals | null): string {
    const lines = this.#complaints.trim().split('\n');
    return `the kernel agent ended (${signal ?? status}): ${lines[lines.length - 1] || 'no message'}`;
  }
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

interface Answer {
  readonly outcome?: Outcome;
  readonly error?: AgentError;
  readonly probe?: { readonly version: string; readonly missing: readonly string[] };
}

interface AgentError {
  readonly kind: 'rules' | 'case';
  readonly node?: string;
  readonly message: string;
}

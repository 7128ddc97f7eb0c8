// The `podwire` command for tests: in this process, or as the compiled command that a user starts.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RegisteredExperiment } from '../registry.ts';
import { runProgram } from './program.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
export const MAIN = join(ROOT, 'dist', 'experiments', 'cli', 'main.js');

/** What a shell would see. */
export interface Seen {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Without `registry`, with the built-in experiments. */
export async function podwire(
  args: readonly string[],
  options: { readonly registry?: readonly RegisteredExperiment[] } = {},
): Promise<Seen> {
  const seen = { stdout: '', stderr: '' };
  const streamTo = (name: 'stdout' | 'stderr') => ({ write: (text: string) => (seen[name] += text) });
  const exitCode = await runProgram(args, { ...options, stdout: streamTo('stdout'), stderr: streamTo('stderr') });
  return { exitCode, ...seen };
}

/** Starts the compiled command. With `interruptAt`, sends SIGINT as soon as stderr has said so. */
export function startPodwire(
  args: readonly string[],
  { cwd, interruptAt }: { cwd: string; interruptAt?: string },
): Promise<Seen> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing; run npm run build first`);
  const child = spawn(process.execPath, [MAIN, ...args], { cwd });
  const seen = { stdout: '', stderr: '' };
  child.stdout.on('data', (text) => {
    seen.stdout += text;
  });
  child.stderr.on('data', (text) => {
    seen.stderr += text;
    if (text.toString() === interruptAt) child.kill('SIGINT');
  });
  return new Promise((resolve) => {
    child.on('close', (exitCode) => resolve({ exitCode, ...seen }));
  });
}

export class TemporaryDirectory {
  readonly path = mkdtempSync(join(tmpdir(), 'podwire-'));

  join(name: string): string {
    return join(this.path, name);
  }

  /** Writes a file and returns its path. */
  file(name: string, text: string | Uint8Array): string {
    writeFileSync(this.join(name), text);
    return this.join(name);
  }
}

/** Two nodes: on the first a client, on the second `web-0`, the one pod of the Service `web`; and one without endpoints. */
export const TWO_NODES = `
apiVersion: v1
kind: Node
metadata: {name: near}
status: {addresses: [{type: InternalIP, address: 192.168.0.21}]}
---
apiVersion: v1
kind: Node
metadata: {name: far}
status: {addresses: [{type: InternalIP, address: 192.168.0.22}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: near, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec: {nodeName: far, containers: [{name: main, ports: [{name: http, containerPort: 8080}, {name: stats, containerPort: 8125, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports:
    - {name: http, port: 80, targetPort: http, nodePort: 30080}
    - {name: stats, port: 8125, targetPort: stats, protocol: UDP, nodePort: 30125}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}
`;

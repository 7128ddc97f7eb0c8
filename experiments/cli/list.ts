// podwire list: the built-in experiments, with their questions and factors.

import { type Cell, renderTable } from '../harness/report.ts';
import { loadRegistered, type RegisteredExperiment } from '../registry.ts';
import { type Command, type CommandContext, examples } from './command-line.ts';

export function addList(program: Command, context: CommandContext): void {
  program
    .command('list')
    .description('List the built-in experiments.')
    .addHelpText('after', examples('podwire list', 'podwire run service-count'))
    .action(async () => {
      const rows = await Promise.all(context.registry.map(describe));
      const isTerminal = context.stdout.isTTY === true;
      context.stdout.write(renderTable({ columns: ['experiment', 'question', 'factors'], rows, isTerminal }));
    });
}

async function describe(registered: RegisteredExperiment): Promise<Cell[]> {
  if ('addTo' in registered) return [registered.name, registered.question, '-'];
  const { name, question, factors } = await loadRegistered(registered);
  const levels = Object.entries(factors).map(([factor, levels]) => `${factor}: ${levels.join(', ')}`);
  return [name, question ?? '-', levels.join('\n') || '-'];
}

// A random cluster as an experiment of one run: its levels are the story, its only table is what can be seen of it.

import type { Part } from '../../../engine/parallel/part.ts';
import { type Story, tell } from '../../../models/cluster-story.fixture.ts';

const told = (seen: object | undefined) => seen && { measures: {}, tables: {}, files: {}, events: 0, seen };

export default {
  kind: 'podwire experiment',
  run: (levels: Story) => told(tell(levels)),
  runPart: (levels: Story, _seed: string, part: Part) => told(tell(levels, { part })),
};

// A user's experiment, as small as one can be: what does the mean of some dice depend on?

import { ms } from '../../../engine/time.ts';
import { experimentsOn } from '../experiment.ts';
import { TickingCluster } from './ticking-cluster.ts';

const experiment = experimentsOn((options) => new TickingCluster(options));

export default experiment({
  name: 'dice',
  question: 'What does the mean of some dice depend on?',
  factors: { dice: [400, 4, 1], kind: ['fair', 'loaded'] },
  replications: 3,
  warmUp: ms(1),
  duration: ms(4),

  // The first variants take longest, so that with two workers later ones finish before them.
  build({ dice, kind }, { seed }) {
    const eyes = kind === 'fair' ? 6 : 7;
    let state = Array.from(seed).reduce((hash, character) => (hash * 31 + character.charCodeAt(0)) % 65_521, 7);
    let sum = 0;
    for (let i = 0; i < dice * 10_000; i++) {
      state = (state * 75 + 74) % 65_537;
      sum += (state % eyes) + 1;
    }
    return { mean: sum / (dice * 10_000) };
  },

  measure: ({ mean }, cluster) => ({ meanEyes: mean, measuredMs: cluster.measuredMs }),
});

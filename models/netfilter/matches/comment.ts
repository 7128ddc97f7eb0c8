// `-m comment`: text for people; matches every frame.

import { quote } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface CommentMatch {
  readonly match: 'comment';
  readonly comment: string;
}

/** XT_MAX_COMMENT_LEN without its terminating zero. */
const LONGEST_COMMENT = 255;

export const comment: MatchKind<CommentMatch> = {
  name: 'comment',
  isOfFlow: () => true,
  print: ({ comment }) => ` --comment ${quote(comment)}`,
  options: { '--comment': (words) => ({ comment: words.take('a comment') }) },
  complete: ({ comment }) => (comment === undefined ? '--comment TEXT' : { match: 'comment', comment }),
  problem: ({ comment }) =>
    Buffer.byteLength(comment) > LONGEST_COMMENT ? `a comment of more than ${LONGEST_COMMENT} bytes` : undefined,
  compile: () => undefined,
};

import { describeObject, type KubeObject } from './objects.ts';

/** An object that cannot be had. The message names the object, the field, what was expected and what came. */
export class ObjectError extends Error {
  override readonly name = 'ObjectError';
  readonly object: KubeObject;
  /** The message without the object's name. */
  readonly problem: string;

  constructor(object: KubeObject, problem: string) {
    super(`${describeObject(object)}: ${problem}`);
    this.object = object;
    this.problem = problem;
  }
}

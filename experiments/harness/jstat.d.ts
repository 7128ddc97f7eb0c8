// The part of jstat that confidence.ts uses; the package ships no types.

declare module 'jstat' {
  const jStat: {
    readonly studentt: {
      /** The quantile of Student's t distribution. */
      inv(probability: number, degreesOfFreedom: number): number;
    };
    readonly beta: {
      /** The quantile of the beta distribution. */
      inv(probability: number, alpha: number, beta: number): number;
    };
    readonly chisquare: {
      cdf(x: number, degreesOfFreedom: number): number;
    };
  };
  export default jStat;
}

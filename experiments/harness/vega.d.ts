// The part of vega that chart.ts uses and its types leave out.

declare module 'vega' {
  interface TextItem {
    readonly fontSize?: number;
    readonly fontWeight?: string | number;
    /** Longest width, in pixels; 0 or absent: none. */
    readonly limit?: number;
  }
  export const textMetrics: {
    /** Width in pixels. Vega offers it to be replaced where there is no canvas to measure on. */
    width(item: TextItem, text: string): number;
  };
}

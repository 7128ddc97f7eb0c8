// What a frame takes of a kernel's memory (skb->truesize): queues of waiting frames are limited by it, not by length.

/** Memory that the kernel charges for a small skb: one data block and the sk_buff (SKB_TRUESIZE of a 256-byte head). */
const SMALL_FRAME_TRUESIZE_BYTES = 768;
const TRUESIZE_OVERHEAD_BYTES = 576;

export const truesizeBytes = (frameBytes: number): number =>
  Math.max(SMALL_FRAME_TRUESIZE_BYTES, frameBytes + TRUESIZE_OVERHEAD_BYTES);

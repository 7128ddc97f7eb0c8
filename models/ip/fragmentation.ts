// Fragmentation (ip_do_fragment, and ip6_fragment of hosts): one packet becomes several that fit an MTU, each with a header
// of its own. A packet that was put together from fragments on its way through this host leaves in the same pieces, if
// they fit; a copy of it that a bridge has made is cut anew, and in IPv6 into no less than 1280 bytes.
//
// Not modelled: IP options, which only some fragments would repeat.

import {
  type FragmentSizes,
  Frame,
  IPV4_HEADER_BYTES,
  IPV6_FRAGMENT_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  MIN_IPV6_MTU_BYTES,
} from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';

/** Cuts a packet for `mtuBytes`. The first fragment is the frame itself; none of them forbids further fragmentation. */
export function fragment(frame: Frame, mtuBytes: number, frames: FrameStore): Frame[] {
  const { fragments } = frame;
  const dataBytes = frame.ipBytes() - frame.ipHeaderBytes();
  const isCopied = fragments?.isCopied === true;
  const most =
    (isCopied && frame.family === 6 ? Math.max(mtuBytes, MIN_IPV6_MTU_BYTES) : mtuBytes) - fragmentHeaderBytes(frame);
  const staysAsItCame = fragments !== undefined && !isCopied && leaveAsTheyCame(fragments, most);
  const sizes = staysAsItCame ? fragments.dataBytes : evenSizes(dataBytes, most);
  const whole = wholeOf(frame);
  const parts: Frame[] = [];
  let offset = frame.fragmentOffset;
  const end = offset + dataBytes;
  const moreAfterLast = frame.moreFragments;
  for (const size of sizes) {
    const part = parts.length === 0 ? frame : frames.copy(frame);
    cut(part, whole, { offset, size, more: moreAfterLast || offset + size < end });
    parts.push(part);
    offset += size;
  }
  return parts;
}

/** Fragments may leave as they came, unless the way out is narrower. */
const leaveAsTheyCame = ({ dataBytes }: FragmentSizes, most: number): boolean =>
  dataBytes.every((size, i) => size <= most && (size % 8 === 0 || i === dataBytes.length - 1));

/** What stands before the data in every fragment. */
const fragmentHeaderBytes = ({ family }: Frame): number =>
  family === 6 ? IPV6_HEADER_BYTES + IPV6_FRAGMENT_HEADER_BYTES : IPV4_HEADER_BYTES;

/** Offsets are counted in units of eight bytes, so every part but the last is a multiple of that. */
function evenSizes(dataBytes: number, most: number): number[] {
  const step = most & ~7;
  const sizes: number[] = [];
  let left = dataBytes;
  for (; left > most; left -= step) sizes.push(step);
  return [...sizes, left];
}

/** What the fragments are parts of, for their bytes and for whoever puts them together: a record that nobody changes. */
function wholeOf(frame: Frame): Frame | undefined {
  if (frame.isFragment) return frame.whole;
  const whole = new Frame();
  whole.copyPacketFrom(frame);
  whole.fragments = undefined;
  return whole;
}

function cut(
  part: Frame,
  whole: Frame | undefined,
  { offset, size, more }: { offset: number; size: number; more: boolean },
): void {
  part.fragmentOffset = offset;
  part.moreFragments = more;
  part.isAtomicFragment = part.family === 6 && offset === 0 && !more;
  part.dontFragment = false;
  part.fragments = undefined;
  part.whole = whole;
  part.message = undefined;
  part.messageEnds = undefined;
  part.inner = undefined;
  if (offset > 0) {
    part.srcPort = part.dstPort = 0;
    part.tcpFlags = 0;
  }
  part.payloadBytes = size - part.transportHeaderBytes();
  part.updateSize();
}

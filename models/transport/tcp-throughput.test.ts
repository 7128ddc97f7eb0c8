import { describe, expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { ms, s } from '../../engine/time.ts';
import { CARRIED, establishedConnection, type ScriptedWireOptions } from './scripted-wire.fixture.ts';

const MSS_BYTES = 1_448;
const MESSAGE_BYTES = 10 * MSS_BYTES;

/** Sends as much as goes in that time; what arrives, in segments per second. */
function bulkTransfer({
  seconds,
  lossFraction = 0,
  ...options
}: { seconds: number; lossFraction?: number } & ScriptedWireOptions): number {
  const { wire, near, heard } = establishedConnection(options);
  const random = new RandomStreams('loss').stream(`${lossFraction}`);
  wire.tracing = false;
  if (lossFraction > 0) {
    wire.fate = ({ payloadBytes }) => (payloadBytes > 0 && random.uniform() < lossFraction ? 'lost' : CARRIED);
  }
  for (let id = 0; id < 4_000 * seconds; id++) near.send({ sizeBytes: MESSAGE_BYTES, id });
  wire.runUntil(s(seconds));
  wire.frames.assertConserved();
  return (heard.length * 10) / seconds;
}

describe('bulk transfer', () => {
  test.each([
    { name: 'a queue of one bandwidth-delay product', queueBytes: 25_000 },
    { name: 'a long queue', queueBytes: 200_000 },
  ])('fills a bottleneck with $name', ({ queueBytes }) => {
    const rateBps = 100e6;
    const possible = rateBps / 8 / (MSS_BYTES + 66); // 8,256 segments/s with headers
    const achieved = bulkTransfer({ seconds: 3, rateBps, queueBytes, delay: ms(1) });
    expect(achieved / possible).toBeGreaterThan(0.93);
    expect(achieved / possible).toBeLessThanOrEqual(1);
  });

  test.each([
    { roundTripMs: 2, lossFraction: 0.001, seconds: 5 },
    { roundTripMs: 20, lossFraction: 0.001, seconds: 30 },
    { roundTripMs: 20, lossFraction: 0.01, seconds: 30 },
    { roundTripMs: 100, lossFraction: 0.001, seconds: 60 },
  ])('follows the response function of CUBIC: $roundTripMs ms, $lossFraction lost', (path) => {
    const { roundTripMs, lossFraction, seconds } = path;
    const rttSeconds = roundTripMs / 1e3;
    const reno = Math.sqrt(1.5 / lossFraction); //                       segments per round trip
    const cubic = 1.054 * (rttSeconds / lossFraction) ** 0.75; //        RFC 9438 5.1, figure 5, for C = 0.4
    const expected = Math.max(reno, cubic) / rttSeconds;
    const achieved = bulkTransfer({ seconds, lossFraction, delay: ms(roundTripMs / 2) });
    expect(achieved / expected).toBeGreaterThan(0.5);
    expect(achieved / expected).toBeLessThan(2);
  });
});

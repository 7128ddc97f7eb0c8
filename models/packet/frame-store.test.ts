import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { START } from '../../engine/time.ts';
import { DROP_REASONS } from './drop-reason.ts';
import { Frame, PROTOCOL_UDP } from './frame.ts';
import { type FrameHolder, FrameStore } from './frame-store.ts';

/** A wire without physics: frames wait in it. */
class Shelf implements FrameHolder {
  readonly frames: Frame[] = [];
  constructor(readonly holderName: string) {}
  get heldFrames(): number {
    return this.frames.length;
  }
}

describe('frames are conserved', () => {
  test('when each is delivered, dropped or held', () => {
    const store = new FrameStore();
    const shelf = new Shelf('wire node-1/eth0');
    store.addHolder(shelf);

    store.deliver(store.allocate());
    store.drop(store.allocate(), 'NEIGH_FAILED', START, 'node-1');
    shelf.frames.push(store.allocate());

    expect(store.totals()).toEqual({ sent: 3, delivered: 1, dropped: 1, inFlight: 1 });
    expect(() => store.assertConserved()).not.toThrow();
  });

  test('and the check fails when a frame is forgotten', () => {
    const store = new FrameStore();
    const shelf = new Shelf('wire node-1/eth0');
    store.addHolder(shelf);
    store.addHolder(new Shelf('wire node-2/eth0'));
    shelf.frames.push(store.allocate());
    store.allocate(); // nobody holds it, nobody ends it

    expect(() => store.assertConserved()).toThrow(
      'frames are not conserved: 2 sent, but 0 delivered + 0 dropped + 1 in flight (wire node-1/eth0: 1)',
    );
  });

  test('and the check fails when a frame ends twice', () => {
    const store = new FrameStore();
    const frame = store.allocate();
    store.deliver(frame);
    store.drop(frame, 'QDISC_DROP', START, 'node-1');

    expect(() => store.assertConserved()).toThrow('1 sent, but 1 delivered + 1 dropped + 0 in flight (none held)');
  });

  test('whatever happens to them', () => {
    const step = fc.constantFrom('send', 'copy', 'deliver', 'drop');
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const store = new FrameStore();
        const shelf = new Shelf('wire');
        store.addHolder(shelf);
        for (const what of steps) {
          const frame = what === 'send' ? store.allocate() : shelf.frames.shift();
          if (frame === undefined) continue;
          if (what === 'send') shelf.frames.push(frame);
          if (what === 'copy') shelf.frames.push(store.copy(frame), frame);
          if (what === 'deliver') store.deliver(frame);
          if (what === 'drop') store.drop(frame, 'WIRE_LOSS', START, 'fabric');
          store.assertConserved();
        }
      }),
    );
  });
});

test('drops are counted by reason, in the order of the list of reasons', () => {
  const store = new FrameStore();
  for (const reason of ['NO_SOCKET', 'CPU_BACKLOG', 'NO_SOCKET'] as const) {
    store.drop(store.allocate(), reason, START, 'node-1');
  }
  expect([...store.drops()]).toEqual([
    ['CPU_BACKLOG', 1],
    ['NO_SOCKET', 2],
  ]);
});

test('reasons are unique', () => {
  expect(new Set(DROP_REASONS).size).toBe(DROP_REASONS.length);
});

describe('a frame', () => {
  test('that comes from the pool is as blank as a new one, but for its id', () => {
    const store = new FrameStore();
    const used = store.allocate();
    fillEveryField(used);
    store.deliver(used);

    const reused = store.allocate();
    expect(reused).toBe(used);
    expect(reused).toEqual(Object.assign(new Frame(), { id: 2 }));
  });

  test('is copied with its packet and what the kernel keeps beside it, for a bridge to flood', () => {
    const store = new FrameStore();
    const original = store.allocate();
    fillEveryField(original);
    const copy = store.copy(original);

    const expected = new Frame();
    fillEveryField(expected);
    expected.journey = undefined;
    expect(copy).toEqual(Object.assign(expected, { id: 2 }));
  });
});

describe('a journey', () => {
  test('is kept only when frames are followed', () => {
    const store = new FrameStore();
    expect(store.allocate().journey).toBeUndefined();
    store.followAll();
    store.allocate();
    expect(store.journeys.map(({ frameId }) => frameId)).toEqual([2]);
  });

  test('of a copy starts with that of its original, then goes its own way', () => {
    const store = new FrameStore();
    store.followAll();
    const original = store.allocate();
    original.journey!.title = 'arp who-has 10.244.0.3 tell 10.244.0.2';
    original.journey!.add({ at: START, namespace: 'node-1', stage: 'bridge', text: 'flooded' });
    const copy = store.copy(original);
    store.drop(copy, 'OTHERHOST', START, 'default/web-0');
    store.deliver(original);

    const [ofOriginal, ofCopy] = store.journeys;
    expect(ofOriginal!.steps.map(({ text }) => text)).toEqual(['flooded']);
    expect(ofCopy!.steps.map(({ text }) => text)).toEqual(['flooded', 'OTHERHOST']);
    expect(ofCopy!.title).toBe(ofOriginal!.title);
  });

  test('outlives its frame, whose next life has another', () => {
    const store = new FrameStore();
    store.followAll();
    store.drop(store.allocate(), 'QDISC_DROP', START, 'node-1');
    store.deliver(store.allocate());
    expect(store.journeys.map(({ steps }) => steps.length)).toEqual([1, 0]);
  });
});

/** Gives every field another value than its default, so that a field forgotten by reset or copy shows. */
function fillEveryField(frame: Frame): void {
  const device = { name: 'veth1', index: 3 };
  const values: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(new Frame())) {
    if (field === 'id' || field === 'journey') continue;
    if (typeof value === 'number') values[field] = value + 1;
    if (typeof value === 'boolean') values[field] = !value;
  }
  Object.assign(frame, values, {
    protocol: PROTOCOL_UDP,
    quoted: new Frame(),
    message: { id: 7, sizeBytes: 100 },
    messageEnds: [{ offset: 100, message: { id: 7, sizeBytes: 100 } }],
    physIn: device,
    physOut: device,
    receivedOn: device,
    whole: new Frame(),
    fragments: { dataBytes: [8, 8], largestBytes: 28 },
  });
}

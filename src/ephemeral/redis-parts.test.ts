import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createServerClock } from './redis-clock.ts';
import { newestOf } from './redis-cluster-view.ts';
import { slotOf } from './redis-slots.ts';

describe('the slot of a key', () => {
  test('is that of the specification, and of its first braces where there is something in them', () => {
    // The check value of CRC-16/XMODEM; the others are what CLUSTER KEYSLOT of a Redis 7 says.
    assert.equal(slotOf('123456789'), 0x31c3);
    const expected = {
      '': 0,
      foo: 12_182,
      'Grüße 🔑': 6_779,
      '{foo}': 12_182,
      'a:{foo}:b{bar}': 12_182,
      '{}foo': 9_500,
    };
    for (const [key, slot] of Object.entries(expected)) assert.equal(slotOf(key), slot, key);
  });
});

describe('the clock of a server', () => {
  const nowOf = (aheadMs: number) => {
    const serverMs = performance.now() + aheadMs;
    return [Math.floor(serverMs / 1_000), Math.round((serverMs % 1_000) * 1_000)] as const;
  };

  test('is not known before the server has told the time, nor after it is forgotten', () => {
    const clock = createServerClock();
    assert.equal(clock.at(0), undefined);
    clock.note(...nowOf(0));
    assert.notEqual(clock.at(0), undefined);
    clock.forget();
    assert.equal(clock.at(0), undefined);
  });

  test('is taken from the answer that travelled the shortest, and never given too late', () => {
    const clock = createServerClock();
    for (const travelMs of [300, 20, 900]) clock.note(...nowOf(5_000 - travelMs));
    const aheadMs = clock.at(0) ?? 0;
    assert.ok(aheadMs <= 5_000 - 20 && aheadMs > 5_000 - 40, `${aheadMs}`);
  });

  test('that is set forward is believed at once, and one that is set back after ten answers', () => {
    const clock = createServerClock();
    clock.note(...nowOf(0));
    clock.note(...nowOf(60_000));
    assert.ok((clock.at(0) ?? 0) > 59_000);
    for (let answer = 0; answer < 10; answer += 1) clock.note(...nowOf(0));
    assert.ok((clock.at(0) ?? 0) < 1_000);
  });
});

describe('of several views of a cluster', () => {
  const view = (isWorking: boolean, epoch: number) => ({ isWorking, epoch, ranges: [] });

  test('the newest is believed, but none of a server that is cut off while another is not', () => {
    assert.equal(newestOf([]), undefined);
    assert.deepEqual(newestOf([view(true, 3), view(true, 7), view(true, 5)]), view(true, 7));
    assert.deepEqual(newestOf([view(false, 9), view(true, 2)]), view(true, 2));
    assert.deepEqual(newestOf([view(false, 1), view(false, 2)]), view(false, 2));
  });
});

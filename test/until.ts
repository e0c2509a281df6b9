import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for what another program or server does, which no clock of ours can bring about. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs = 5_000): Promise<void> {
  const giveUpAtMs = performance.now() + limitMs;
  while (!(await condition())) {
    assert.ok(performance.now() < giveUpAtMs, `in vain waited for ${condition}`);
    await sleep(5);
  }
}

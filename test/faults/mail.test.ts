import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { strikeUnderLoad } from './mixed-load.ts';
import { untilMailIsDelivered } from './stored.ts';
import { withTrial } from './trial.ts';

const slowestMs = 2_000;

describe('when the mail server is away', () => {
  test('everything else goes on and no answer waits for it, and all mail arrives once it is back', (t) =>
    withTrial(t, {}, async ({ ledger, databaseUrl, check }) => {
      // So that there are accounts, whose codes were mailed.
      await strikeUnderLoad(ledger, 150, async () => {});
      await ledger.postOffice.close();
      const arrived = ledger.postOffice.letters.length;
      const told = ledger.acts.length;
      await strikeUnderLoad(ledger, 100, async () => {});
      const acts = ledger.acts.slice(told);
      assert.equal(ledger.postOffice.letters.length, arrived);
      const reports = acts.filter(({ mail }) => mail !== undefined).length;
      assert.ok(reports > 10, `there was mail to send: ${reports}`);
      const slowest = Math.max(...acts.map(({ tookMs }) => tookMs));
      assert.ok(slowest < slowestMs, `the slowest answer took ${slowest} ms`);
      await ledger.postOffice.open();
      await untilMailIsDelivered(databaseUrl, new Map());
      await check('with the mail server back');
    }));
});

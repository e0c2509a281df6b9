import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { ephemeralBackends, minuteMs, newKey, useStore } from '../../test/ephemeral.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { sealEntries } from './sealed-entries.ts';

const newSecret = () => randomBytes(48).toString('base64');

for (const backend of ephemeralBackends) {
  const raw = useStore(backend);

  describe(`sealed entries (${backend.name})`, () => {
    const nowMs = Date.now();
    const entry = { digest: 'right', payload: 'the payload', expiresAtMs: nowMs + minuteMs };
    const [older, newer] = [newSecret(), newSecret()];
    const refusals: unknown[] = [];
    const sealedUnder = (...secrets: [string, ...string[]]) =>
      sealEntries(raw(), createKeyring(secrets), (error) => refusals.push(error));

    test('an entry is given to the right digest among several, and the store holds nothing readable of it', async () => {
      const key = newKey();
      const store = sealedUnder(newer);
      await store.put(key, entry, nowMs);
      assert.doesNotMatch((await raw().peek(key, 'right', nowMs)) ?? '', /payload/);
      assert.equal(await store.peek(key, 'right', nowMs), 'the payload');
      assert.equal(await store.peek(key, 'wrong', nowMs), undefined);
      assert.equal(await store.take(key, ['wrong', 'right'], nowMs), 'the payload');
      assert.equal(await store.take(key, ['right'], nowMs), undefined);
      assert.deepEqual(refusals.splice(0), []);
    });

    test('an entry from before a rotation of the secret is opened by the list, and by nobody without the old one', async () => {
      const key = newKey();
      await sealedUnder(older).put(key, entry, nowMs);
      assert.equal(await sealedUnder(newer).peek(key, 'right', nowMs), undefined);
      assert.equal(refusals.splice(0).length, 1);
      assert.equal(await sealedUnder(newer, older).take(key, ['right'], nowMs), 'the payload');
    });

    test('what somebody else wrote into the store proves nothing: forged, moved, under another digest or prolonged', async () => {
      const store = sealedUnder(newer);
      const [key, target] = [newKey(), newKey()];
      await raw().put(target, entry, nowMs);
      assert.equal(await store.take(target, ['right'], nowMs), undefined);
      await store.put(key, entry, nowMs);
      const payload = (await raw().peek(key, 'right', nowMs)) ?? '';
      await raw().put(target, { ...entry, payload }, nowMs);
      assert.equal(await store.take(target, ['right'], nowMs), undefined);
      await raw().put(key, { ...entry, payload, digest: 'chosen' }, nowMs);
      assert.equal(await store.take(key, ['chosen'], nowMs), undefined);
      assert.equal(refusals.splice(0).length, 3);
      await raw().put(key, { ...entry, payload, expiresAtMs: nowMs + 10 * minuteMs }, nowMs);
      assert.equal(await store.take(key, ['right'], nowMs + minuteMs), undefined);
      await raw().put(key, { ...entry, payload }, nowMs);
      assert.equal(await store.take(key, ['right'], nowMs + minuteMs - 1), 'the payload');
    });
  });
}

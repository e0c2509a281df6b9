import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashSync, verifySync } from '@node-rs/argon2';
import { hashSync as bcryptHashSync, verifySync as bcryptVerifySync } from '@node-rs/bcrypt';
import { argon2Parameters } from './hash-scheme.ts';
import { makeUnmatchedHash } from './unmatched-hash.ts';

// Enough for every last symbol of a salt and a digest, which hold fewer bits than the others.
const samples = 200;

test('has the form of a real hash at the same cost, and is another each time', () => {
  const real = bcryptHashSync('correct horse', { cost: 4 });
  const realArgon2 = hashSync('correct horse', argon2Parameters);
  const form = (hash: string) => hash.replace(/[./A-Za-z0-9+]{20,}/g, ({ length }) => `<${length}>`);
  assert.equal(form(makeUnmatchedHash({ name: 'bcrypt', cost: 4 })), form(real));
  assert.equal(form(makeUnmatchedHash({ name: 'argon2id' })), form(realArgon2));
  const made = Array.from({ length: samples }, () => makeUnmatchedHash({ name: 'bcrypt', cost: 12 }));
  assert.equal(new Set(made).size, samples);
});

test('is no malformed hash to the libraries, and no password matches it', () => {
  for (let sample = 0; sample < samples; sample += 1) {
    assert.equal(bcryptVerifySync('correct horse', makeUnmatchedHash({ name: 'bcrypt', cost: 4 })), false);
  }
  // The parameters are read from the hash, and those of production would take seconds here.
  for (let sample = 0; sample < samples; sample += 1) {
    const cheap = makeUnmatchedHash({ name: 'argon2id' }).replace(/m=\d+,t=\d+/, 'm=8,t=1');
    assert.equal(verifySync(cheap, 'correct horse'), false);
  }
});

test('is checked with the work of a real one', () => {
  const time = (hash: string): number => {
    const startedAtMs = performance.now();
    bcryptVerifySync('correct horse', hash);
    return performance.now() - startedAtMs;
  };
  const cheap = Math.min(...Array.from({ length: 5 }, () => time(makeUnmatchedHash({ name: 'bcrypt', cost: 5 }))));
  const dear = Math.min(...Array.from({ length: 5 }, () => time(makeUnmatchedHash({ name: 'bcrypt', cost: 9 }))));
  assert.ok(dear / cheap > 8, `sixteen times the work took ${dear / cheap} times as long`);
});

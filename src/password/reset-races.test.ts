import { test } from 'node:test';
import { raceResets, resetRaces } from '../../test/races/passwords.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';
import { AppError } from '../errors.ts';
import { resetPassword } from './flow.ts';

describeOnBackends('password reset', {}, (system) => {
  test('of 20 parallel resets with one token one gets through, and its password is the one that works', () =>
    raceResets(system(), async ({ deps }, verificationToken, candidates) => {
      // Hashing takes unequal times, so all wait for the last before they use the token, and do it at once.
      const { promise: allAreHashed, resolve } = Promise.withResolvers<void>();
      let hashed = 0;
      const hash = async (password: string) => {
        const result = await deps.passwords.hash(password);
        hashed += 1;
        if (hashed === candidates.length) resolve();
        await allAreHashed;
        return result;
      };
      const together = { ...deps, passwords: { ...deps.passwords, hash } };
      const context = {
        requestId: '',
        clientAddress: '203.0.113.7',
        userAgent: null,
        signal: AbortSignal.timeout(60_000),
      };
      return Promise.all(
        candidates.map((newPassword) =>
          resetPassword(together, { verificationToken, newPassword }, context).then(
            () => undefined,
            (error: unknown) => (error instanceof AppError ? error.code : String(error)),
          ),
        ),
      );
    }));

  testRaces(resetRaces, system);
});

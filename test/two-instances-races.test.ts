import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { inTransaction } from '../src/db/database.ts';
import { newEmail, sendCode } from './accounts.ts';
import { administratorRaces } from './races/administrators.ts';
import { codeRaces } from './races/codes.ts';
import { emailChangeRaces } from './races/email-changes.ts';
import { loginRaces, reauthenticationRaces } from './races/logins.ts';
import { passwordChangeRaces, raceResets, resetOverHttp, resetRaces } from './races/passwords.ts';
import { testRaces } from './races/races.ts';
import { raceRefreshes, refreshAgainstEnd } from './races/refreshes.ts';
import { registrationRaces } from './races/registrations.ts';
import { sessionRaces } from './races/sessions.ts';
import { howOften } from './thorough.ts';
import { senders, startTwins, type Twins } from './twins/rig.ts';
import { reasonForNoTwins } from './twins/surroundings.ts';

const refreshRounds = howOften({ brief: 60, thorough: 200 });
const share = 0.3;
const mails = 300;

// Requests alternate between the processes, so the sides of every race meet on different ones.
describe('races over two instances', { skip: reasonForNoTwins }, () => {
  let twins: Twins;
  const system = () => twins.system;

  before(async () => {
    twins = await startTwins();
  });
  after(() => twins?.close());

  testRaces(sessionRaces, system, share);
  testRaces(codeRaces, system, share);
  testRaces(registrationRaces, system, share);
  testRaces(loginRaces, system, share);
  testRaces(reauthenticationRaces, system, share);
  testRaces(passwordChangeRaces, system, share);
  testRaces(resetRaces, system, share);
  testRaces(emailChangeRaces, system, share);
  testRaces(administratorRaces, system, share);

  test('of 20 parallel resets with one token one gets through, and its password is the one that works', () =>
    raceResets(system(), resetOverHttp));

  test(`${refreshRounds} races of a refresh against an end leave nothing alive after the end is answered`, () =>
    raceRefreshes(system(), refreshRounds, refreshAgainstEnd));

  test(`${mails} waiting mails arrive exactly once each, delivered by both instances between them`, async () => {
    const { deps, clock } = system();
    const recipients = Array.from({ length: mails }, (_, index) => `waiting-${index}@example.com`);
    const message = { kind: 'password_changed' } as const;
    const expiresAtMs = clock.now() + 300_000;
    const before = twins.mail.senders.length;
    await inTransaction(deps.db, async (tx) => {
      for (const to of recipients) {
        await deps.outbox.enqueue(tx, { to, userId: null, locale: null, message, expiresAtMs });
      }
    });
    // Whichever instance writes a mail delivers at once all that is due, so from here on both do.
    const further = [newEmail(), newEmail()];
    await Promise.all(further.map((email) => sendCode(system(), email, 'registration')));
    await deps.outbox.deliverDue();
    const arrived = twins.mail.mailbox.list().slice(0, twins.mail.mailbox.list().length - before);
    assert.deepEqual(arrived.map(({ to }) => to).sort(), [...recipients, ...further].sort());
    for (const sender of Object.values(senders)) {
      const count = twins.mail.senders.slice(before).filter((from) => from === sender).length;
      assert.ok(count > mails / 20, `${sender} delivered ${count}`);
    }
  });
});

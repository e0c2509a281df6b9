import assert from 'node:assert/strict';
import type { Act, Ledger, Person } from './ledger.ts';
import { topicOf } from './post-office.ts';
import type { Stored } from './stored.ts';

/**
 * Finds out from the database what became of the acts that were not answered, and books those that were carried out. From
 * then on nothing is uncertain: every row must be what the ledger says.
 */
export function settleUnanswered(acts: readonly Act[], stored: Stored): void {
  for (const act of acts) {
    if (act.outcome !== 'unanswered') continue;
    act.outcome = act.refreshes === undefined ? settleByEvent(act, stored) : settleRefresh(act, stored);
  }
}

function settleByEvent(act: Act, { events, sessions }: Stored): 'done' | 'undone' {
  const event = events.find((row) =>
    // A deletion blanks its own event too.
    act.event === 'user.deleted'
      ? row.type === act.event && row.user_id === act.userId
      : row.type === act.event && row.tag === act.tag,
  );
  if (event === undefined) return 'undone';
  act.userId = event.user_id;
  const sessionId = sessions.find(({ tag }) => tag === act.tag)?.id;
  act.book({ userId: event.user_id ?? undefined, sessionId, tokens: undefined });
  return 'done';
}

function settleRefresh({ refreshes, title }: Act, { sessions }: Stored): 'done' | 'undone' {
  const row = sessions.find(({ id }) => id === refreshes?.id);
  assert.ok(refreshes !== undefined && row !== undefined, `${title}: the session of a refresh under way is gone`);
  const known = refreshes.refreshTokens.length - 1;
  assert.ok(row.generation === known || row.generation === known + 1, `generation ${row.generation}, known ${known}`);
  refreshes.generation = row.generation;
  return row.generation === known ? 'undone' : 'done';
}

/** Holds the rows against the ledger, and the events against the acts from which on they were read; a line each. */
export function compareRows(ledger: Ledger, acts: readonly Act[], stored: Stored): string[] {
  const persons = ledger.persons.filter((person) => person !== undefined);
  const expected = new Map(persons.map((person) => [person.id, describePerson(person)]));
  const actual = new Map(stored.users.map((row) => [row.id, describeUser(row, stored)]));
  return [
    ...stored.faults.map((fault) => `the database says: ${JSON.stringify(fault)}`),
    ...[...expected].flatMap(([id, line]) =>
      actual.get(id) === line ? [] : [`told ${line}, stored ${actual.get(id)}`],
    ),
    ...[...actual].flatMap(([id, line]) => (expected.has(id) ? [] : [`stored, and never told: ${line}`])),
    ...compareEvents(acts, ledger.deletedUserIds, stored.events),
  ];
}

function describePerson({ email, profile, sessions, devices }: Person): string {
  const generations = sessions.map(({ id, generation }) => `${id}:${generation}`).sort();
  return JSON.stringify([email, 'active', profile, { profile }, ['user'], generations, devices.size]);
}

function describeUser(row: Stored['users'][number], { sessions, userRoles, devices }: Stored): string {
  const own = <T extends { user_id: string }>(rows: T[]) => rows.filter(({ user_id }) => user_id === row.id);
  const generations = own(sessions)
    .map(({ id, generation }) => `${id}:${generation}`)
    .sort();
  const roles = own(userRoles).map(({ role_name }) => role_name);
  const metadata = JSON.parse(row.metadata);
  return JSON.stringify([row.email, row.status, row.name, metadata, roles, generations, own(devices).length]);
}

/** One event for each act that was carried out and none for any other. Of a deleted user only the number can be told. */
function compareEvents(acts: readonly Act[], deletedUserIds: ReadonlySet<string>, events: Stored['events']): string[] {
  const isNameless = (userId: string | null) => userId !== null && deletedUserIds.has(userId);
  const done = acts.filter(({ outcome, event }) => outcome === 'done' && event !== undefined);
  // A login that is mailed about has noticed a device.
  const noticing = done.filter(({ mail }) => mail?.topic === 'New login to your account');
  const expected = countBy(
    [...done, ...noticing.map((act) => ({ ...act, event: 'device.noticed' as const }))],
    ({ event, userId, tag }) => `${event} about ${userId} by ${isNameless(userId) ? 'a deleted user' : tag}`,
  );
  const passwordChanges = new Set(done.filter(({ event }) => event === 'password.changed').map(({ tag }) => tag));
  const actual = countBy(
    // A change of address that was cut short is cancelled by the next password, and only by one.
    events.filter(
      ({ type, tag, user_id }) =>
        type !== 'email_change.cancelled' || !(isNameless(user_id) || passwordChanges.has(tag ?? '')),
    ),
    ({ type, user_id, tag }) => `${type} about ${user_id} by ${isNameless(user_id) ? 'a deleted user' : tag}`,
  );
  return [...new Set([...expected.keys(), ...actual.keys()])].flatMap((key) => {
    const [told = 0, stored = 0] = [expected.get(key), actual.get(key)];
    return told === stored ? [] : [`${key}: told ${told}, stored ${stored}`];
  });
}

/** Mails that a process had begun to deliver when it died: whether they arrived, nobody can know. */
export type Interrupted = Map<string, Stored['mails'][number]>;

/** Notes the mails that were under way. To be called before a new process delivers anything. */
export function noteInterrupted(interrupted: Interrupted, { mails }: Stored): void {
  for (const mail of mails) if (mail.attempts > 0) interrupted.set(mail.id, mail);
}

/**
 * Holds the mail against the ledger: each act that reports by mail has one, waiting or arrived, and no other act has any.
 * A mail that was under way at a kill may arrive again, or expire before its turn comes again; one that still waits
 * goes with a deleted account.
 */
export function compareMail(ledger: Ledger, stored: Stored, interrupted: Interrupted, mayAllRepeat: boolean): string[] {
  const keyOf = ({ to, topic }: { to: string; topic: string }) => `“${topic}” to ${to}`;
  const reports = ledger.acts.filter(({ outcome, mail }) => outcome === 'done' && mail !== undefined);
  const expected = countBy(reports, ({ mail }) => keyOf(mail ?? { to: '', topic: '' }));
  const mayBeGone = countBy(
    reports.filter(({ userId }) => userId !== null && ledger.deletedUserIds.has(userId)),
    ({ mail }) => keyOf(mail ?? { to: '', topic: '' }),
  );
  const arrived = countBy(ledger.postOffice.letters, ({ to, subject }) => keyOf({ to, topic: topicOf(subject) }));
  const waiting = countBy(stored.mails, keyOf);
  // Each try may have got through before it was cut off.
  const mayRepeat = countBy([...interrupted.values()], keyOf, ({ attempts }) => attempts);
  const isOver = ({ expiresAtMs }: { expiresAtMs: number }) => expiresAtMs <= Date.now();
  const mayHaveExpired = countBy([...interrupted.values()].filter(isOver), keyOf);
  return [...new Set([...expected.keys(), ...arrived.keys(), ...waiting.keys()])].flatMap((key) => {
    const count = (counts: Map<string, number>) => counts.get(key) ?? 0;
    const least = count(expected) - count(mayBeGone) - count(mayHaveExpired);
    const most = count(expected) === 0 ? 0 : count(expected) + (mayAllRepeat ? Infinity : count(mayRepeat));
    const isThere = count(arrived) + count(waiting) >= least;
    if (isThere && count(arrived) <= most && (count(waiting) === 0 || most > 0)) return [];
    return [`${key}: told ${count(expected)}, arrived ${count(arrived)}, waiting ${count(waiting)}`];
  });
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string, weigh = (_item: T) => 1): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + weigh(item));
  return counts;
}

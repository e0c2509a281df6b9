import assert from 'node:assert/strict';
import { sealNextBatch } from '../src/audit/sealing.ts';
import { type AuditReport, verifyAuditTrail } from '../src/audit/verification.ts';
import type { Db } from '../src/db/schema.ts';
import type { Deps } from '../src/deps.ts';
import { type Call, call, type Reply } from './client.ts';
import type { System } from './system.ts';

/** Where the requests of these tests come from. */
export const place = {
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101',
  address: '198.51.100.77',
};

/** Reads the events that are not among these, in the order of their types and details: ids of one moment have none. */
export async function listNewEvents({ db }: Pick<Deps, 'db'>, known: ReadonlySet<string>) {
  const events = await db.selectFrom('audit_events').selectAll().orderBy('type').orderBy('details').execute();
  return events.filter(({ id }) => !known.has(id));
}

/** Makes a request from the place of these tests, and reads the events that it wrote, in the order of their types. */
export async function callAndListEvents(system: System, request: Call) {
  const known = new Set((await listNewEvents(system.deps, new Set())).map(({ id }) => id));
  const headers = { ...request.headers, 'user-agent': place.userAgent };
  const reply: Reply = await call(system, { ...request, headers, remoteAddress: place.address });
  return { reply, events: await listNewEvents(system.deps, known) };
}

/** Seals everything that waits, one seal at a time. Returns how many events that were. */
export async function sealAll(deps: Pick<Deps, 'db' | 'database' | 'keyring' | 'clock'>): Promise<number> {
  let sealed = 0;
  for (let count = await sealNextBatch(deps); count > 0; count = await sealNextBatch(deps)) sealed += count;
  return sealed;
}

type Keyring = Parameters<typeof verifyAuditTrail>[1];
type Expectation = Parameters<typeof verifyAuditTrail>[2];

/** Verifies the audit trail in a transaction. */
export function verifyTrail(
  { db, keyring }: { db: Db; keyring: Keyring },
  expectation: Expectation = {},
): Promise<AuditReport> {
  return db.transaction().execute((tx) => verifyAuditTrail(tx, keyring, expectation));
}

/** Verifies the audit trail, in which nothing may be wrong or in doubt. */
export async function assertIntact(deps: { db: Db; keyring: Keyring }): Promise<AuditReport> {
  const report = await verifyTrail(deps);
  assert.deepEqual([report.findings, report.unauthenticated], [[], undefined]);
  assert.equal(report.removed?.isAuthentic ?? true, true);
  return report;
}

class UndoneError extends Error {}

/** Verifies the audit trail after somebody has had their hands on it, and puts everything back as it was. */
export async function verifyTampered(
  { db, keyring }: Pick<Deps, 'db' | 'keyring'>,
  tamper: (tx: Db) => Promise<unknown>,
  expectation: Expectation = {},
): Promise<AuditReport> {
  let report: AuditReport | undefined;
  const undone = db.transaction().execute(async (tx) => {
    await tamper(tx);
    report = await verifyAuditTrail(tx, keyring, expectation);
    throw new UndoneError();
  });
  await assert.rejects(undone, UndoneError);
  assert.ok(report);
  return report;
}

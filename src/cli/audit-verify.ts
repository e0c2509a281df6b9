import type { Command } from 'commander';
import type { ChainLink } from '../audit/chain.ts';
import type { AuditFinding } from '../audit/findings.ts';
import { type AuditReport, verifyAuditTrail } from '../audit/verification.ts';
import { toRfc3339 } from '../clock.ts';
import { type AuditSettings, loadAuditSettings } from '../config.ts';
import { ConfigError } from '../config-error.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { readSnapshot, SnapshotRefusedError } from '../db/snapshot.ts';
import { describeDatabaseFault } from '../start-error.ts';
import { CommandFailedError } from './command-failed.ts';

type Options = { expect?: string; json?: true };
type Verdict = 'intact' | 'broken' | 'not_checked';

const exitCodes: Readonly<Record<Verdict, number>> = { intact: 0, broken: 1, not_checked: 2 };
const expectPattern = /^(\d{1,15}):([\w-]{43})$/;
const progressIntervalMs = 2_000;

// Lines of at most 80 characters, as Commander makes them.
const explanation = `
It reads every sealed event and every seal, changes nothing, and may run while
the service does. SECRET_KEY, in production and wherever it is set, must be the
list that the service has; with a value that was taken out of the list its seals
can only be compared, and a later seal has to vouch for them.

What it cannot see is that the newest end was cut off. So note the newest seal
that it prints, or that the service writes into its log, somewhere else:
  npm run cli -- audit verify --expect 1234:Zm9v…
shows that this seal is still there and everything before it as it was.

Exit codes: 0 intact, 1 broken, 2 could not be checked.

Example:
  npm run cli -- audit verify --json`;

/** Adds `audit verify`, which verifies the chain over the audit events. */
export function addAuditVerify(audit: Command): void {
  audit
    .command('verify')
    .summary('verify that no sealed event was changed, added or removed')
    .description('Verifies that no sealed event was changed, added or removed.')
    .option('--expect <seq:digest>', 'a newest seal that was noted before, which must still be there')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async (options: Options, command: Command) => {
      const expected = readExpected(options.expect, (message) => command.error(message));
      const report = await verify(expected);
      const verdict = judge(report);
      console.log(options.json ? renderJson(report, verdict) : renderText(report));
      if (verdict !== 'intact') throw new CommandFailedError(summarize(report), { exitCode: exitCodes[verdict] });
    });
}

function readExpected(text: string | undefined, refuse: (message: string) => never): ChainLink | undefined {
  if (text === undefined) return undefined;
  const [, seq, digest] = expectPattern.exec(text) ?? [];
  if (seq === undefined || digest === undefined) refuse('--expect must be <number>:<digest>, as it was printed.');
  return { seq: Number(seq), digest };
}

async function verify(expected: ChainLink | undefined): Promise<AuditReport> {
  try {
    const settings = loadAuditSettings(process.env);
    const keyring = { all: listRoots(settings) };
    return await readSnapshot(settings.databaseUrl, (tx) =>
      verifyAuditTrail(tx, keyring, { expected, onSeal: createProgress() }),
    );
  } catch (error) {
    throw new CommandFailedError(explainFailure(error), { cause: error, exitCode: exitCodes.not_checked });
  }
}

function listRoots({ secretKeys: [newest, ...older] }: AuditSettings) {
  return newest === undefined ? [] : createKeyring([newest, ...older]).all;
}

/** Writes a line now and then to standard error, where it is in nobody's way; nothing where it is quick. */
function createProgress(): (seals: number) => void {
  let shownAtMs = performance.now();
  return (seals) => {
    const nowMs = performance.now();
    if (nowMs - shownAtMs < progressIntervalMs) return;
    shownAtMs = nowMs;
    console.error(`${format(seals)} seals verified`);
  };
}

/** Says why nothing could be checked, without the properties of an error, in which a URL with its password may be. */
function explainFailure(error: unknown): string {
  if (error instanceof ConfigError) return error.message;
  const start = 'The audit trail could not be checked.';
  if (!(error instanceof Error)) return `${start} ${String(error)}`;
  if (error instanceof SnapshotRefusedError) return `${start} The database: ${error.message}`;
  const fault = describeDatabaseFault(error);
  return fault === undefined ? `${start} ${error.stack ?? error.message}` : `${start} The database: ${fault}`;
}

function judge(report: AuditReport): Verdict {
  if (report.findings.length > 0) return 'broken';
  return findDoubt(report) === undefined ? 'intact' : 'not_checked';
}

/** Says what keeps a trail without findings from being called intact. */
function findDoubt({ unauthenticated, removed, isExpectationChecked }: AuditReport): string | undefined {
  if (unauthenticated !== undefined) {
    const { fromSeal, throughSeal } = unauthenticated;
    return `the SECRET_KEY of seals ${fromSeal} to ${throughSeal} is not given, so anybody could have made them.`;
  }
  if (removed?.isAuthentic === false) {
    return `the SECRET_KEY under which everything up to seal ${removed.throughSeal} was removed is not given.`;
  }
  return isExpectationChecked
    ? undefined
    : 'the seal that was noted has been removed by the retention. Note a newer one.';
}

function summarize(report: AuditReport): string {
  const [first] = report.findings;
  if (first !== undefined) return `The audit trail is broken, first at ${renderFinding(first)}.`;
  return `The audit trail could not be checked: ${findDoubt(report)}`;
}

function renderFinding({ seal, eventId, text }: AuditFinding): string {
  return eventId === null ? `seal ${seal}: ${text}` : `event ${eventId} of seal ${seal}: ${text}`;
}

function renderText(report: AuditReport): string {
  const { findings, moreFindings, events, seals, head, removed, unsealed, blankedEvents, vouchedSeals } = report;
  const lines = [`Read ${format(events)} events in ${format(seals)} seals.`];
  if (head !== undefined) lines.push(`  newest seal  ${head.seq}:${head.digest} of ${toRfc3339(head.sealedAtMs)}`);
  if (removed !== undefined) {
    const { events: count, throughSeal, atMs } = removed;
    lines.push(
      `  removed      ${format(count)} events up to seal ${throughSeal}, by the retention at ${toRfc3339(atMs)}`,
    );
  }
  if (blankedEvents > 0) lines.push(`  blanked      ${format(blankedEvents)} events of deleted users`);
  if (vouchedSeals > 0) lines.push(`  vouched for  ${format(vouchedSeals)} seals of a SECRET_KEY that is not given`);
  const oldest = unsealed.oldestAtMs === null ? '' : `, the oldest of ${toRfc3339(unsealed.oldestAtMs)}`;
  lines.push(`  not sealed   ${format(unsealed.count)} events${oldest}`);
  lines.push(...findings.map((finding) => `  wrong        ${renderFinding(finding)}`));
  if (moreFindings > 0) lines.push(`  wrong        and ${format(moreFindings)} more`);
  if (judge(report) === 'intact') lines.push('The audit trail is intact.');
  return lines.join('\n');
}

function renderJson(report: AuditReport, verdict: Verdict): string {
  const { findings, head, removed, unsealed, unauthenticated } = report;
  return JSON.stringify({
    verdict,
    events: report.events,
    seals: report.seals,
    head: head === undefined ? null : `${head.seq}:${head.digest}`,
    head_sealed_at: head === undefined ? null : toRfc3339(head.sealedAtMs),
    blanked_events: report.blankedEvents,
    unsealed_events: unsealed.count,
    oldest_unsealed_at: unsealed.oldestAtMs === null ? null : toRfc3339(unsealed.oldestAtMs),
    removed_events: removed?.events ?? 0,
    removed_through_seal: removed?.throughSeal ?? null,
    vouched_seals: report.vouchedSeals,
    unauthenticated_seals:
      unauthenticated === undefined ? null : [unauthenticated.fromSeal, unauthenticated.throughSeal],
    findings: findings.map(({ fault, seal, eventId, text }) => ({ fault, seal, event_id: eventId, text })),
    more_findings: report.moreFindings,
  });
}

function format(count: number): string {
  return count.toLocaleString('en');
}

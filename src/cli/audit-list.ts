import { type Command, InvalidArgumentError } from 'commander';
import { auditEventTypes } from '../audit/events.ts';
import { listEvents, type RecordedEvent } from '../audit/flow.ts';
import { idPattern } from '../crypto/ids.ts';
import type { Deps } from '../deps.ts';
import type { PagePosition } from '../paging.ts';
import { CommandFailedError } from './command-failed.ts';
import { getNamedUser } from './find-user.ts';
import { withInstallation } from './installation.ts';
import { readCount } from './options.ts';
import { printJsonLines, renderTable, showTime, timeForJson } from './output.ts';

type Options = { user?: string; type?: string; since?: number; until?: number; limit: number; json?: true };

const eventsPerPage = 200;
const eventsShown = 50;
const unitsMs = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

const explanation = `
Times are RFC 3339 (2026-01-31T12:00:00Z), a day (2026-01-31, from 0:00 UTC), or
so long ago: 30m, 12h, 7d. What the operator did has no actor and says "by
operator" or the operator's name in its details.

Examples:
  latchkey audit list --type login.failed --since 24h
  latchkey audit list --user ada@example.com --json | jq .type`;

/** Adds `audit list`, which shows the events, to the commands about them. */
export function addAuditList(audit: Command): void {
  audit
    .command('list')
    .summary('list events, the newest first')
    .description('Lists events, the newest first.')
    .option('--user <user>', 'only those about this user: id or e-mail address')
    .option('--type <type>', 'only those of this type, such as login.failed')
    .option('--since <time>', 'only from this time on', readTime)
    .option('--until <time>', 'only before this time', readTime)
    .option('--limit <number>', 'so many at most', readCount, eventsShown)
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', explanation)
    .action((options: Options) => withInstallation('existing', (deps) => printEvents(deps, options)));
}

async function printEvents(deps: Deps, { user, type, since, until, limit, json }: Options): Promise<void> {
  requireType(type);
  const userId = user === undefined ? undefined : await findSubject(deps, user);
  const filter = { userId, type, sinceMs: since, untilMs: until };
  const shown: RecordedEvent[] = [];
  let after: PagePosition | undefined;
  let left = limit;
  do {
    const page = await listEvents(deps.db, filter, { limit: Math.min(left, eventsPerPage), after });
    if (json) await printJsonLines(page.items.map(toJson));
    else shown.push(...page.items);
    left -= page.items.length;
    after = page.next;
  } while (after !== undefined && left > 0);
  if (json) return;
  console.log(shown.length === 0 ? 'There is no such event.' : renderEvents(shown));
  if (after !== undefined) console.error(`These are the newest ${shown.length}; --limit shows more.`);
}

function requireType(type: string | undefined): void {
  const types: readonly string[] = auditEventTypes;
  if (type === undefined || types.includes(type)) return;
  throw new CommandFailedError(
    `There are no events of the type ${JSON.stringify(type)}. There are: ${types.join(', ')}.`,
  );
}

/** Of a deleted user only the id is left. */
async function findSubject(deps: Deps, user: string): Promise<string> {
  return new RegExp(`^${idPattern}$`).test(user) ? user : (await getNamedUser(deps, user)).id;
}

function renderEvents(events: readonly RecordedEvent[]): string {
  const rows = events.map((event) => [
    showTime(event.occurredAtMs),
    event.type,
    event.userId ?? '-',
    event.actorId === event.userId ? '' : (event.actorId ?? '-'),
    event.clientAddress ?? '-',
    Object.entries(event.details)
      .map(([name, value]) => `${name}=${value}`)
      .join(' '),
  ]);
  return renderTable(['TIME', 'TYPE', 'USER', 'BY ANOTHER', 'ADDRESS', 'DETAILS'], rows);
}

/** The same names as in the API. */
function toJson(event: RecordedEvent) {
  return {
    id: event.id,
    type: event.type,
    occurred_at: timeForJson(event.occurredAtMs),
    actor_id: event.actorId,
    user_id: event.userId,
    client_address: event.clientAddress,
    user_agent: event.userAgent,
    request_id: event.requestId,
    details: event.details,
  };
}

function readTime(text: string): number {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  if (count !== undefined) return Date.now() - Number(count) * unitsMs[unit as keyof typeof unitsMs];
  const isTime = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2}))?$/.test(text);
  const epochMs = isTime ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(epochMs)) throw new InvalidArgumentError('It must be a time such as 2026-01-31T12:00:00Z, or 24h.');
  return epochMs;
}

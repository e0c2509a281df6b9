import assert from 'node:assert/strict';
import type { AuditEventType } from '../../src/audit/events.ts';
import { type Answer, type Program, type ProgramRequest, send } from '../program.ts';
import type { PostOffice } from './post-office.ts';
import type { Random } from './random.ts';

/** A session as its client knows it. */
export type HeldSession = {
  id: string;
  /** Which of the user agents it is used from. */
  device: number;
  /** The tokens that the client was given, by generation; none where the login was never answered. */
  refreshTokens: string[];
  accessToken: string | undefined;
  /** What the row must hold: one more than the client knows of where the last refresh was carried out and not answered. */
  generation: number;
  rotatedAtMs: number;
};

/** An account as its owner knows it from the answers. */
export type Person = {
  id: string;
  email: string;
  password: string;
  formerPassword: string | undefined;
  failedLogins: number;
  /** In the name and in the metadata, which always change together. */
  profile: string;
  sessions: HeldSession[];
  devices: Set<number>;
};

/** What became of a request: acknowledged, refused with 503, not answered, or not answered and found not to have happened. */
type Outcome = 'under way' | 'done' | 'refused' | 'unanswered' | 'undone';

/** One request that changes something, and everything that it must leave behind if it is carried out. */
export type Act = {
  /** Ends its User-Agent, which events and sessions keep: so each row names the request that it came from. */
  tag: string;
  title: string;
  outcome: Outcome;
  event: AuditEventType | undefined;
  mail: ExpectedMail | undefined;
  /** Whom its event is about. */
  userId: string | null;
  refreshes: HeldSession | undefined;
  leavesTrace: boolean;
  tookMs: number;
  book: (evidence: Evidence) => void;
};

type ExpectedMail = { to: string; topic: string };

/** What shows that an act was carried out: its answer, or what the database holds where there was none. */
export type Evidence = {
  userId: string | undefined;
  sessionId: string | undefined;
  tokens: { access: string; refresh: string } | undefined;
};

/** A request with what it must come to. */
export type Step = Omit<ProgramRequest, 'userAgent'> & {
  device: number;
  /** The status of its acknowledgement; any other is a fault. */
  status: number;
  code?: string;
  event?: AuditEventType;
  mail?: ExpectedMail;
  userId?: string;
  refreshes?: HeldSession;
  book?: (evidence: Evidence) => void;
};

/** What a 503 means: that something is wrong, that nothing happened, or that nobody knows what happened. */
type MeaningOf503 = 'fault' | 'refused' | 'unanswered';

/** The program, those who use it, and the books of what they were told. */
export type Ledger = {
  random: Random;
  postOffice: PostOffice;
  program: Program;
  acts: Act[];
  /** One place for each client; empty before it has an account. */
  persons: (Person | undefined)[];
  deletedUserIds: Set<string>;
  /** Who and what has ended since the last inspection. */
  ended: { persons: Person[]; sessions: HeldSession[] };
  acknowledged: number;
  meaningOf503: MeaningOf503;
  /** From here on an answer may fail to come. */
  isCrashing: boolean;
  isStopping: boolean;
};

type LedgerOptions = Pick<Ledger, 'random' | 'postOffice' | 'program'> & { clients: number };

/** Opens the books. */
export function openLedger({ clients, ...options }: LedgerOptions): Ledger {
  return {
    ...options,
    acts: [],
    persons: Array.from({ length: clients }, () => undefined),
    deletedUserIds: new Set(),
    ended: { persons: [], sessions: [] },
    acknowledged: 0,
    meaningOf503: 'fault',
    isCrashing: false,
    isStopping: false,
  };
}

/** The request was not answered, or with a 503 that leaves open what happened. */
export class UnansweredError extends Error {
  override readonly name = 'UnansweredError';
}

/** The request was refused with a 503 that promises that nothing happened. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

const agents = [
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0',
  'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36',
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15',
] as const;

export const deviceCount = agents.length;

/** Reads which act a user agent belongs to. */
export function tagOf(userAgent: string | null): string | undefined {
  return /act-\d+$/.exec(userAgent ?? '')?.[0];
}

/** Makes a request, and books what it was acknowledged to have done. */
export async function perform(ledger: Ledger, step: Step): Promise<Answer> {
  const { method, path, body, token, device, status, code, event, mail, userId, refreshes, book } = step;
  const act: Act = {
    tag: `act-${ledger.acts.length}`,
    title: `${method} ${path}`,
    outcome: 'under way',
    event,
    mail,
    userId: userId ?? null,
    refreshes,
    leavesTrace: event !== undefined || refreshes !== undefined,
    tookMs: 0,
    book: book ?? (() => {}),
  };
  ledger.acts.push(act);
  const request = { method, path, body, token, userAgent: `${agents[device]} ${act.tag}` };
  const sentAtMs = performance.now();
  const answer = await send(ledger.program, request).catch((error: unknown) => {
    assert.ok(ledger.isCrashing, `${act.title} was not answered: ${error}`);
    act.outcome = 'unanswered';
    throw new UnansweredError();
  });
  act.tookMs = performance.now() - sentAtMs;
  if (answer.status === 503) judge503(ledger, act);
  const told = `${act.title} (${act.tag}): ${answer.status} ${JSON.stringify(answer.body)}`;
  assert.equal(answer.status, status, told);
  if (code !== undefined) assert.equal(answer.body.code, code, told);
  act.outcome = 'done';
  ledger.acknowledged += 1;
  const evidence = readEvidence(answer);
  if (evidence.userId !== undefined && act.userId === null) act.userId = evidence.userId;
  act.book(evidence);
  return answer;
}

function judge503(ledger: Ledger, act: Act): void {
  assert.ok(ledger.meaningOf503 !== 'fault', `${act.title} was answered 503`);
  act.outcome = ledger.meaningOf503;
  throw ledger.meaningOf503 === 'refused' ? new RefusedError() : new UnansweredError();
}

function readEvidence({ body }: Answer): Evidence {
  const refresh: string | undefined = body?.refresh_token;
  return {
    userId: body?.user?.id,
    sessionId: refresh?.split('.')[1],
    tokens: refresh === undefined ? undefined : { access: body.access_token, refresh },
  };
}

/** Books a login: one session more. */
export function bookSession(person: Person, device: number, { sessionId, tokens }: Evidence): void {
  assert.ok(sessionId, 'a login that was carried out has no session');
  person.sessions.push({
    id: sessionId,
    device,
    refreshTokens: tokens === undefined ? [] : [tokens.refresh],
    accessToken: tokens?.access,
    generation: 0,
    rotatedAtMs: performance.now(),
  });
}

/** Books that sessions have ended. */
export function bookEnd(ledger: Ledger, person: Person, isEnded: (session: HeldSession) => boolean): void {
  ledger.ended.sessions.push(...person.sessions.filter(isEnded));
  person.sessions = person.sessions.filter((session) => !isEnded(session));
}

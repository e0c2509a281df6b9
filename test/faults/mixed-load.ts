import { setTimeout as sleep } from 'node:timers/promises';
import {
  changeEmail,
  changePassword,
  changeProfile,
  deleteAccount,
  endAllOthers,
  endOther,
  failToLogIn,
  isUsable,
  logIn,
  logOut,
  presentOldToken,
  refresh,
  signUp,
  type UsableSession,
} from './deeds.ts';
import { type Ledger, type Person, RefusedError, UnansweredError } from './ledger.ts';
import { createRandom, type Random } from './random.ts';

type Deed = (ledger: Ledger, person: Person, session: UsableSession, random: Random) => Promise<void>;

const sessionsMax = 5;

// How often each is done, in parts of the whole.
const deeds: readonly [number, Deed][] = [
  [6, (ledger, _person, session) => refresh(ledger, session)],
  [3, logInAgain],
  [3, changeProfile],
  [2, logOut],
  [2, changePassword],
  [1, failToLogIn],
  [1, endOneOther],
  [1, endAllOthers],
  [1, presentStolenToken],
  [1, changeEmail],
  [1, deleteAccount],
];
const deedsInTotal = deeds.reduce((total, [parts]) => total + parts, 0);

/**
 * Lets the clients act until so many acts have been acknowledged, and strikes while they go on. A client makes one
 * request at a time and has an account of its own, so at every moment at most one act for each account is uncertain.
 */
export async function strikeUnderLoad(ledger: Ledger, acts: number, strike: () => Promise<unknown>): Promise<void> {
  const goal = ledger.acknowledged + acts;
  ledger.isStopping = false;
  const clients = ledger.persons.map((_, place) =>
    runClient(ledger, place, createRandom(ledger.random.below(2 ** 32))),
  );
  const striking = (async () => {
    while (ledger.acknowledged < goal && !ledger.isStopping) await sleep(1);
    ledger.isCrashing = true;
    await strike();
    ledger.isStopping = true;
  })();
  await Promise.all([...clients, striking]);
}

async function runClient(ledger: Ledger, place: number, random: Random): Promise<void> {
  while (!ledger.isStopping) {
    try {
      await act(ledger, place, random);
    } catch (error) {
      if (error instanceof UnansweredError) return;
      if (error instanceof RefusedError) continue;
      ledger.isStopping = true;
      throw error;
    }
  }
}

async function act(ledger: Ledger, place: number, random: Random): Promise<void> {
  const person = ledger.persons[place];
  if (person === undefined) return signUp(ledger, place, random);
  const [session, ...others] = person.sessions.filter(isUsable);
  if (session === undefined) return logIn(ledger, person, random);
  await chooseDeed(random)(ledger, person, random.pick([session, ...others]), random);
}

function chooseDeed(random: Random): Deed {
  let drawn = random.below(deedsInTotal);
  for (const [parts, deed] of deeds) {
    if (drawn < parts) return deed;
    drawn -= parts;
  }
  throw new Error('the parts of the deeds are not their whole');
}

async function logInAgain(ledger: Ledger, person: Person, session: UsableSession, random: Random): Promise<void> {
  if (person.sessions.length < sessionsMax) await logIn(ledger, person, random);
  else await endAllOthers(ledger, person, session);
}

async function endOneOther(ledger: Ledger, person: Person, session: UsableSession, random: Random): Promise<void> {
  const other = person.sessions.find(({ id }) => id !== session.id);
  if (other === undefined) await logIn(ledger, person, random);
  else await endOther(ledger, person, session, other);
}

async function presentStolenToken(
  ledger: Ledger,
  person: Person,
  session: UsableSession,
  random: Random,
): Promise<void> {
  const old = person.sessions.find(({ refreshTokens }) => refreshTokens.length > 2);
  if (old === undefined) await refresh(ledger, session);
  else await presentOldToken(ledger, person, old, random.below(old.refreshTokens.length - 2));
}

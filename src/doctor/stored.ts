import type { Config } from '../config.ts';
import { createKeyring, type Keyring } from '../crypto/secrets.ts';
import { countOutbox, listSecretUses, type OutboxBacklog, type SecretUse } from '../db/inspection.ts';
import { withRows } from '../db/read-only.ts';
import { listSigningKeyInfo, type SigningKeyInfo } from '../keys/flow.ts';
import { type Finding, ok, problem, skipped, warning } from './finding.ts';

const dayMs = 86_400_000;
const lateMailMs = 300_000;

/** Looks at what is stored: whether SECRET_KEY opens it, how old the keys are, and whether mail gets away. */
export async function checkStored(config: Config, hasSecret: boolean, nowMs: number): Promise<Finding[]> {
  const keyring = createKeyring(config.secretKeys);
  return withRows(config.environment.DATABASE_URL, async (db) => {
    const uses = await listSecretUses(db);
    if (!hasSecret) return [judgeAbsentSecret(uses)];
    const keys = await listSigningKeyInfo(db);
    return [
      checkSecret(keyring, uses),
      ...checkOlderSecrets(config, { keyring, uses, keys, nowMs }),
      ...checkKeys(config, keys, nowMs),
      checkOutbox(await countOutbox(db), nowMs),
    ];
  });
}

function judgeAbsentSecret(uses: readonly SecretUse[]): Finding {
  if (uses.length === 0) return skipped('secret', 'There is no secret yet; the first start in development makes one.');
  return problem('secret', {
    what: `SECRET_KEY is not set and DATA_DIR has no secret.key, but this database was made with ${uses.map(({ fingerprint }) => fingerprint).join(', ')}.`,
    why: 'Its passwords, sessions and signing keys cannot be read without it: a start would make another one and stop.',
    remedy: 'Put secret.key back into DATA_DIR, or set SECRET_KEY to what it held.',
  });
}

function checkSecret({ current, all }: Keyring, uses: readonly SecretUse[]): Finding {
  const known = new Set(uses.map(({ fingerprint }) => fingerprint));
  if (uses.length > 0 && !all.some(({ fingerprint }) => known.has(fingerprint))) {
    return problem('secret', {
      what: `SECRET_KEY has the fingerprint ${current.fingerprint}, and this database was made with ${[...known].join(', ')}.`,
      why: 'Its passwords, sessions and signing keys cannot be read, and the service does not start.',
      remedy: 'Give the old value back, or append it after a comma to rotate it.',
    });
  }
  if (uses.length === 0)
    return ok('secret', `SECRET_KEY has the fingerprint ${current.fingerprint}; the first start notes it.`);
  if (!known.has(current.fingerprint)) {
    return ok(
      'secret',
      `SECRET_KEY begins with a new value, fingerprint ${current.fingerprint}; the next start notes it.`,
    );
  }
  return ok('secret', `SECRET_KEY has the fingerprint ${current.fingerprint}, which this database knows.`);
}

type Stored = { keyring: Keyring; uses: readonly SecretUse[]; keys: readonly SigningKeyInfo[]; nowMs: number };

/** What still needs a value that is no longer the first, or that is not given any more. */
function checkOlderSecrets(config: Config, stored: Stored): Finding[] {
  const { keyring, uses, keys } = stored;
  return uses.flatMap((use) => {
    if (use.fingerprint === keyring.current.fingerprint) return [];
    const isGiven = keyring.all.some(({ fingerprint }) => fingerprint === use.fingerprint);
    const dependents = listDependents(config, use, stored);
    if (isGiven) return [describeGiven(use, dependents)];
    const isKeyLost = keys.some(({ sealedUnder }) => sealedUnder === use.fingerprint);
    if (isKeyLost || use.hasPasswords) return [describeLost(use, isKeyLost)];
    return [];
  });
}

function listDependents(
  config: Config,
  { fingerprint, hasPasswords }: SecretUse,
  { keyring, uses, keys, nowMs }: Stored,
) {
  const newest = uses.find((use) => use.fingerprint === keyring.current.fingerprint);
  const idleMs = config.environment.SESSION_IDLE_TTL_SECONDS * 1000;
  const sessionsUntilMs = newest === undefined ? undefined : newest.firstSeenAtMs + idleMs;
  return [
    ...(keys.some(({ sealedUnder }) => sealedUnder === fingerprint) ? ['signing keys (until the next start)'] : []),
    ...(sessionsUntilMs === undefined || sessionsUntilMs > nowMs
      ? [`refresh tokens${sessionsUntilMs === undefined ? '' : ` (until ${new Date(sessionsUntilMs).toISOString()})`}`]
      : []),
    ...(hasPasswords ? ['passwords of users who have not logged in with them since'] : []),
  ];
}

function describeGiven({ fingerprint }: SecretUse, dependents: readonly string[]): Finding {
  if (dependents.length > 0)
    return ok('older_secret', `The older secret ${fingerprint} is still needed by ${dependents.join(', ')}.`);
  return warning('older_secret', {
    what: `Nothing depends on the older secret ${fingerprint} any more.`,
    why: 'Whoever has it could still forge what it verifies.',
    remedy: 'Take it out of SECRET_KEY and restart.',
  });
}

function describeLost({ fingerprint }: SecretUse, isKeyLost: boolean): Finding {
  const remedy = `Append the value with the fingerprint ${fingerprint} to SECRET_KEY after a comma.`;
  if (isKeyLost) {
    return problem('older_secret', {
      what: `A signing key is sealed under the secret ${fingerprint}, which is not in SECRET_KEY.`,
      why: 'The service does not start without it.',
      remedy,
    });
  }
  return warning('older_secret', {
    what: `Passwords are hashed under the secret ${fingerprint}, which is not in SECRET_KEY.`,
    why: 'They match nothing: their owners can log in with a code by mail, or reset the password.',
    remedy: `${remedy} Without it, those users have to reset.`,
  });
}

function checkKeys({ environment }: Config, keys: readonly SigningKeyInfo[], nowMs: number): Finding[] {
  if (keys.length === 0) return [skipped('signing_keys', 'There are no signing keys yet; the first start makes them.')];
  const active = keys.find(({ state }) => state === 'active');
  const missing = ['active', 'next'].filter((state) => !keys.some((key) => key.state === state));
  if (active === undefined || missing.length > 0) {
    return [
      problem('signing_keys', {
        what: `There is no ${missing.join(' and no ')} signing key.`,
        why: 'Nobody can be given a token, or no rotation is possible.',
        remedy: 'Restart the service: a start makes what is missing.',
      }),
    ];
  }
  const ageMs = nowMs - (active.activatedAtMs ?? active.createdAtMs);
  const maxAgeMs = environment.SIGNING_KEY_MAX_AGE_SECONDS * 1000;
  const what = `The active signing key has signed for ${days(ageMs)}, of ${days(maxAgeMs)} at most; ${keys.length} keys verify.`;
  if (ageMs <= maxAgeMs + dayMs) return [ok('signing_keys', what)];
  return [
    warning('signing_keys', {
      what,
      why: 'A running instance would have rotated it, so none has run, or its chores fail.',
      remedy: 'Look for "removing expired rows failed" in the log. To rotate it now: latchkey keys rotate',
    }),
  ];
}

function days(ms: number): string {
  const count = Math.floor(ms / dayMs);
  return count === 1 ? '1 day' : `${count} days`;
}

function checkOutbox({ waiting, oldestCreatedAtMs }: OutboxBacklog, nowMs: number): Finding {
  const lateMs = nowMs - (oldestCreatedAtMs ?? nowMs);
  if (lateMs < lateMailMs)
    return ok('outbox', waiting === 0 ? 'No mail waits.' : `${waiting} mails wait, none for long.`);
  return warning('outbox', {
    what: `${waiting} ${waiting === 1 ? 'mail waits' : 'mails wait'}, the oldest for ${Math.floor(lateMs / 60_000)} minutes.`,
    why: 'Codes expire before they arrive, and whoever waits for one cannot log in.',
    remedy: 'See what this page says of the mail server, whether the service runs, and its log for "mail".',
  });
}

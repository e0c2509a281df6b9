import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A time-out, retry or limit of the service: what it is for, its value as the source has it, and where that is. */
export type Limit = { room: string; meaning: string; value: string; place: string };

type Meanings = Record<string, Record<string, Record<string, string>>>;

const root = join(import.meta.dirname, '..');

// Rooms, files and constants with what each bounds. Written by hand, because that is not in a name; the values are
// read from the source.
const meanings: Meanings = {
  HTTP: {
    'src/app.ts': {
      bodyLimitBytes: 'the body of a request; more is 413',
    },
    'src/http/connection-limits.ts': {
      headersMs: 'the headers of a request, from its first byte or from the connection; then 408',
      requestMs: 'a request, from its first byte to the last of its body; then 408',
      checkEveryMs: 'between two looks at which connections have used these up',
      keepAliveMs: 'an idle connection of a client or proxy',
      silenceMs: 'a connection whose client takes nothing of its answer',
      requestsPerConnection: 'requests on one connection; the last is answered with `Connection: close`',
      connections: 'connections at once; one more is closed without an answer',
      maxHeaders: 'headers of a request; more is 431',
      tellEveryMs: 'between two lines in the log about too many connections',
    },
    'src/log-error.ts': {
      maxMessageLength: 'characters of the message of an error in the log',
      maxFrames: 'lines of its stack',
      maxDepth: 'causes of it, and causes of those',
      maxErrors: 'errors of which it consists',
    },
    'src/http/context.ts': {
      userAgentMaxLength: 'characters kept of a `User-Agent`',
    },
    'src/strict-json.ts': {
      maxDepth: 'levels of nesting in a body',
    },
    'src/http/paging.ts': {
      defaultLimit: 'items of a page without `limit`',
      maxLimit: 'items of a page at most',
      cursorMaxLength: 'characters of a cursor',
    },
    'src/http/problem.ts': {
      maxFieldErrors: 'entries in `errors` of a problem',
      retryAfterSeconds: '`Retry-After` of a 503 that says nothing else',
    },
    'src/http/health.ts': {
      probeTimeoutMs: 'the look of `/health/ready` at a component',
    },
    'src/http/limit-counter.ts': {
      redisDeadlineMs: 'an answer of Redis about a limit, before this process’s own count is used alone',
      maxKeysPerPolicy: 'clients or accounts that a process counts one by one for each policy of a limit',
      crowds: 'crowds in which it counts the others together',
    },
    'src/limit-grammar.ts': {
      maxRequests: 'requests in a policy of RATE_LIMITS',
      maxStretchSeconds: 'the stretch of time of one',
      maxPolicies: 'policies of one limit',
    },
    'src/metrics/scrape.ts': {
      lookDeadlineMs: 'the look of `/metrics` at a component',
      freshForMs: 'for which what was found of the components is told again',
    },
    'src/keys/routes.ts': {
      maxAgeSeconds: 'for which others may keep the JWKS',
    },
  },
  'Accounts, codes and tokens': {
    'src/email-address.ts': {
      emailMaxLength: 'characters of an address',
      localPartMaxLength: 'characters before the @',
      domainMaxLength: 'characters after it',
    },
    'src/account/flow.ts': {
      metadataMaxBytes: '`metadata` of an account, as JSON',
    },
    'src/account/profile-form.ts': {
      nameMaxLength: 'characters of a name',
      localeMaxLength: 'characters of a language tag',
    },
    'src/account/export.ts': {
      maxSessions: 'sessions in an export',
      maxEvents: 'newest events in an export',
    },
    'src/account/email-change.ts': {
      pendingTtlMs: 'a change of address that is under way',
    },
    'src/crypto/password-policy.ts': {
      passwordMaxLength: 'characters of a password',
    },
    'src/crypto/hash-pool.ts': {
      maxWaitMs: 'a password check’s wait for a thread; then 503',
    },
    'src/crypto/foreign-hash.ts': {
      scryptMaxMemoryBytes: 'memory of one foreign scrypt hash',
      pbkdf2MaxRounds: 'rounds of one foreign PBKDF2 hash',
      bcryptMaxCost: 'cost of one foreign bcrypt hash',
      argon2MaxMemoryKibibytes: 'KiB of memory of one foreign argon2 hash',
      argon2MaxPasses: 'passes of one foreign argon2 hash',
      argon2MaxLanes: 'lanes of one foreign argon2 hash',
    },
    'src/crypto/access-token.ts': {
      maxTokenLength: 'characters of an access token',
      cacheSize: 'verified access tokens remembered in a process',
    },
    'src/crypto/refresh-token.ts': {
      refreshTokenMaxLength: 'characters of a refresh token',
    },
    'src/verification/flow.ts': {
      codeTries: 'tries of one code',
      resendAfterSeconds: 'between two mails to one address',
    },
    'src/verification/tokens.ts': {
      tokenTtlSeconds: 'a verification token',
      verificationTokenMaxLength: 'characters of a verification token',
    },
    'src/guessing/flow.ts': {
      failuresMax: 'wrong passwords in a row, then none is accepted there until a reset',
      memoryMs: 'for which they are counted, after the last of them',
      suspensionMemoryMs: 'the same once none is accepted',
    },
    'src/guessing/lane.ts': {
      freeAttempts: 'attempts of one client at an address that need not wait for each other',
      firstWaitMs: 'the first wait after them; doubles',
      longestWaitMs: 'a wait at most',
    },
    'src/users/search.ts': {
      rowsLookedAtMax: 'users looked at for one page where two filters have no index together',
    },
    'src/roles/flow.ts': {
      rolesMax: 'roles',
      roleNameMaxLength: 'characters of the name of a role',
      permissionsPerRoleMax: 'permissions of a role',
      permissionsMaxBytes: 'the permissions of all roles together, as JSON, so that they fit into an access token',
    },
    'src/roles/assignment.ts': {
      rolesPerUserMax: 'roles of a user',
    },
    'src/sessions/guard.ts': {
      recentAuthenticationSeconds: 'for which an authentication counts as recent',
    },
    'src/sessions/store.ts': {
      excessBatch: 'sessions over the cap that one login ends',
    },
    'src/devices/flow.ts': {
      devicesPerUserMax: 'known devices of a user',
    },
    'src/devices/store.ts': {
      excessBatch: 'devices over the cap that one login forgets',
    },
    'src/keys/loaded-keys.ts': {
      freshForMs: 'after which a request lets the signing keys be read again',
      staleAfterMs: 'after which a request waits for that',
      staleWaitMs: 'that wait',
      waitAgainAfterMs: 'between two such waits where the database does not answer',
      lookUpEveryMs: 'between two look-ups of unknown key ids',
    },
  },
  PostgreSQL: {
    'src/db/postgres-dialect.ts': {
      connectionTimeoutMillis: 'a connection, or the wait for a free one',
      idleTimeoutMillis: 'an idle connection',
      maxLifetimeSeconds: 'a connection, however much it is used',
      keepAliveInitialDelayMillis: 'silence after which TCP asks whether the server is there',
      statement_timeout: 'a statement, ended by the server',
      lock_timeout: 'the wait for a lock, ended by the server',
      idle_in_transaction_session_timeout: 'a transaction that does nothing, ended by the server',
      query_timeout: 'an answer of a server that says nothing, ended by us',
      waitingPerConnection: 'requests that may wait for each connection of the pool',
      replacementPauseMs: 'between two replacements of the whole pool, after the server turned read-only',
    },
    'src/db/database.ts': {
      maxAttempts: 'runs of a transaction that PostgreSQL chose as the victim of a deadlock',
    },
    'src/db/start-wait.ts': {
      pauseMs: 'between two attempts while a start waits',
      tellEveryMs: 'between two lines about that in the log',
    },
  },
  SQLite: {
    'src/db/sqlite-turns.ts': {
      busyTimeoutMs: 'the wait for a turn or for another process’s lock',
      maxPauseMs: 'between two looks at that lock at most',
    },
    'src/db/sqlite-groups.ts': {
      maxUnitsPerGroup: 'transactions and statements that are committed together',
      gatheringLimitMs: 'how long a write waits for others while every turn of the event loop brings more',
      heldLimitMs: 'how long a transaction may keep what others wrote from being committed',
    },
    'src/db/sqlite-statements.ts': {
      maxPreparedStatements: 'statements kept prepared',
    },
  },
  Redis: {
    'src/ephemeral/redis-link.ts': {
      connectTimeoutMs: 'a connection',
      commandDeadlineMs: 'a command; later it is a 503 where Redis is needed',
      maxQueuedCommands: 'commands under way on one connection',
      maxReconnectDelayMs: 'between two attempts to reconnect at most; they never end',
      quietLimitMs: 'silence after which a server is sent nothing more',
      idleTimeoutMs: 'silence of the socket after which a connection is made anew',
      repeatErrorAfterMs: 'between two lines about the same trouble',
    },
    'src/ephemeral/redis-node.ts': {
      beatEveryMs: 'between two questions whether a server lives',
    },
    'src/ephemeral/redis-advice.ts': {
      answerLimitMs: 'the look at version and `maxmemory-policy`',
    },
    'src/ephemeral/redis-sentinel.ts': {
      askEveryMs: 'between two questions to a sentinel',
      voteTtlMs: 'for which a sentinel’s answer counts',
    },
    'src/ephemeral/redis-cluster-map.ts': {
      lookEveryMs: 'between two looks at the slots while something changes',
      firstLookEveryMs: 'the same until the first look succeeds',
      lookAgainAfterMs: 'between two looks otherwise',
      viewLimitMs: 'a look at the slots',
      maxAskedNodes: 'servers asked for it',
      maxNodes: 'servers connected to',
      guestTtlMs: 'for which a server is kept that only a redirection named',
    },
    'src/ephemeral/redis-cluster.ts': {
      maxRedirects: 'redirections of one command',
      newcomerLimitMs: 'the wait for a connection to a server that a redirection names',
    },
    'src/redis-url.ts': {
      maxHosts: 'hosts in REDIS_URL',
    },
    'src/ephemeral/redis.ts': {
      retryAfterSeconds: '`Retry-After` of what is refused without Redis',
    },
    'src/ephemeral/shared-throttle.ts': {
      answerLimitMs: 'a question about an attempt, before this process’s own count is used alone',
    },
    'src/ephemeral/session-cache.ts': {
      sessionCacheLifeMs: 'an entry of the session cache',
      blockMs: 'for which a revocation keeps a user’s sessions out of it',
      lookUpDeadlineMs: 'a look into it, before the database is asked',
      blockDeadlineMs: 'a revocation’s wait for Redis to confirm it',
    },
    'src/ephemeral/redis-pause.ts': {
      pauseMs: 'after a failure, for which limits and waits are this process’s own and the cache is left alone',
    },
  },
  'State in this process, without Redis': {
    'src/ephemeral/memory.ts': {
      entries: 'codes and tokens kept; one more is 503',
      budgets: 'addresses whose budget of mails is kept; one more is 503',
      sweepEveryMs: 'between two searches of a full store for what has expired',
      retryAfterSeconds: '`Retry-After` of a full store',
    },
  },
  Guessing: {
    'src/ephemeral/throttle.ts': {
      maxKeys: 'keys whose attempts this process counts; the least recent goes first',
      lookAtMost: 'keys that are looked at for one that may go',
    },
  },
  Mail: {
    'src/mail/smtp.ts': {
      connectionMs: 'a connection with greeting and TLS',
      silenceMs: 'a server that says nothing',
      deliveryMs: 'a whole delivery',
      verifyMs: 'a look whether the server lets us in',
      idleMs: 'a connection without mail',
      maxConnections: 'connections',
      maxMessages: 'messages on one connection',
      maxReplyBytes: 'replies of a server',
    },
    'src/mail/server-watch.ts': {
      maxPlaces: 'deliveries under way',
      lookEveryMs: 'between two looks while there is nothing to send',
      pausesMs: 'between tries while the server is away; the last goes on',
      refusalPausesMs: 'the same where it refuses us, as with a wrong password',
    },
    'src/mail/retries.ts': {
      firstRetryMs: 'after the first failure of one mail; doubles',
      maxRetryMs: 'between two tries of it at most',
      refusalRetryMs: 'after its recipient was refused for good',
      maxRefusedTries: 'such refusals, then it is given up',
      maxPolicyRetryMs: 'between two tries where the server refuses us for a reason of policy, at most',
    },
    'src/mail/delivery.ts': {
      pollEveryMs: 'between two looks into the outbox',
      leaseMs: 'for which a mail is one instance’s',
      closeLimitMs: 'deliveries under way, at a stop',
    },
    'src/mail/store.ts': {
      maxCounted: 'waiting mails that `/metrics` counts; more count as this many',
    },
    'src/mail/outbox.ts': {
      noticeTtlMs: 'for which a notice is worth delivering; a code, as long as it works',
    },
    'src/mail/mailbox.ts': {
      maxMails: 'mails in the development mailbox',
    },
  },
  Chores: {
    'src/maintenance/flow.ts': {
      everyMs: 'between two turns',
      leaseMs: 'for which the chores are one instance’s',
      deviceMemoryMs: 'for which an unused device is known',
      noticeMs: 'a retired key is kept longer than its last token',
    },
    'src/maintenance/pace.ts': {
      smallestBatch: 'rows removed at once, at first and where it is slow',
      smallestEventBatch: 'audit events removed at once, at first and where it is slow',
      largestBatch: 'rows or events removed at once where it is quick',
      maxRestMs: 'between two batches of rows, at most',
      maxEventRestMs: 'between two batches of audit events, at most',
      sweepLimitMs: 'for which one chore goes on in a turn',
    },
    'src/audit/flow.ts': {
      erasedAtOnce: 'events of a deleted user blanked with the deletion; the rest follows',
    },
    'src/maintenance/sealing.ts': {
      everyMs: 'between two turns of sealing the audit trail',
      leaseMs: 'for which the sealing is one instance’s',
      maxBatches: 'seals made in a turn',
      complainEveryMs: 'between two lines about sealing that fails',
      tellHeadEveryMs: 'between two lines about the newest seal in the log',
    },
    'src/audit/sealing.ts': {
      eventsPerSeal: 'events in a seal',
    },
    'src/audit/retention.ts': {
      stepMs: 'the retention of audit events goes on in steps of this',
    },
    'src/audit/findings.ts': {
      maxFindings: 'findings that `audit verify` lists; the rest is counted',
    },
    'src/audit/verification.ts': {
      sealsPerRead: 'seals that it reads at once',
    },
    'src/audit/event-check.ts': {
      eventsPerRead: 'events that it reads at once',
      rememberedUsers: 'deleted users that it remembers',
    },
  },
  Stopping: {
    'src/http/listener.ts': {
      reuseGraceMs: 'for which an idle connection may still be reused',
    },
    'src/healthcheck.ts': {
      answerWaitMs: 'an answer to the health check of the image',
    },
    'src/serve.ts': {
      metricsDrainLimitMs: 'scrapes under way at `METRICS_PORT`, after the requests',
    },
    'src/shutdown.ts': {
      drainLimitMs: 'requests under way',
      exitLimitMs: 'the whole stop',
    },
  },
  'The other commands': {
    'src/cli/installation.ts': {
      connectionsOfCommand: 'connections to PostgreSQL',
      redisWaitMs: 'the wait for a connection to Redis, before a command goes on without',
    },
    'src/cli/terminal.ts': {
      maxInputBytes: 'a password from standard input',
    },
    'src/db/backup.ts': {
      pagesPerStep: 'pages that a backup copies at once',
      busyWaitMs: 'the wait of a backup for a locked database',
    },
    'src/db/inspection.ts': {
      busyWaitMs: 'the look of doctor at a locked SQLite file',
      postgresWaitMs: 'an answer of PostgreSQL to doctor',
    },
    'src/ephemeral/redis-inspection.ts': {
      connectWaitMs: 'a connection to Redis for doctor',
      answerWaitMs: 'an answer of Redis to doctor',
      probeLifeMs: 'the one key that doctor writes to Redis',
    },
    'src/doctor/public-address.ts': {
      answerWaitMs: 'an answer of PUBLIC_URL to doctor',
      maxBodyBytes: 'that answer',
    },
    'src/doctor/clock-skew.ts': {
      noticeableMs: 'between two clocks before doctor warns',
      harmfulMs: 'between two clocks before doctor calls it a problem',
    },
    'src/doctor/redis.ts': {
      slowMs: 'an answer of Redis before doctor warns',
    },
    'src/doctor/settings.ts': {
      longAccessTokenSeconds: 'the life of access tokens before doctor warns',
    },
    'src/doctor/stored.ts': {
      lateMailMs: 'the wait of the oldest mail before doctor warns',
    },
  },
  'users import and users export': {
    'src/users/import-records.ts': {
      recordMaxBytes: 'one line of a file',
    },
    'src/users/import-fields.ts': {
      hashMaxLength: 'characters of a password hash in a file',
      rolesMax: 'roles of one user in a file',
      roleNameMaxLength: 'characters of the name of a role in a file',
    },
    'src/users/import-flow.ts': {
      linesPerBatch: 'lines in one transaction',
      maxLines: 'lines of one file',
    },
    'src/users/import-batch.ts': {
      maxAttempts: 'tries to update an account that is being changed by others',
    },
    'src/users/import-user.ts': {
      clockToleranceMs: 'that a time in a file may be ahead of this clock',
    },
    'src/users/export-flow.ts': {
      usersPerRead: 'users read at once by an export',
    },
  },
  'copy-database': {
    'src/db/copy-connection.ts': {
      connectTimeoutMs: 'the connection',
      statementTimeoutMs: 'a statement',
      lockTimeoutMs: 'the wait for a lock of the target',
      idleInTransactionTimeoutMs: 'the transaction while it does nothing',
      closeTimeoutMs: 'leaving',
    },
    'src/db/copy-source.ts': {
      lockWaitMs: 'the wait for the lock of the source',
    },
    'src/db/copy.ts': {
      rowsPerBatch: 'rows written at once',
      charactersPerBatch: 'characters written at once',
    },
    'src/db/copy-target.ts': {
      rowsPerFetch: 'rows read back at once',
    },
  },
};

// Numbers that bound nothing an operator could meet: sizes of keys, ports, codes of others, parts of a rule.
const others: Record<string, readonly string[]> = {
  'src/audit/retention.ts': ['dayMs'],
  'src/cli/audit-verify.ts': ['progressIntervalMs'],
  'src/config.ts': ['productionMinBcryptCost', 'productionMinMetricsToken'],
  'src/config-secrets.ts': ['minSecretBytes', 'minDistinctCharacters'],
  'src/cli/backup.ts': ['progressIntervalMs'],
  'src/cli/audit-list.ts': ['eventsPerPage', 'eventsShown'],
  'src/cli/copy-database.ts': ['progressIntervalMs'],
  'src/cli/create-admin.ts': ['triesMax'],
  'src/cli/installation.ts': ['redisLookEveryMs'],
  'src/cli/keys.ts': ['jwksLifeMs'],
  'src/cli/options.ts': ['countMax'],
  'src/cli/secret.ts': ['secretBytes'],
  'src/cli/users.ts': ['usersPerPage', 'usersShown'],
  'src/doctor/database.ts': ['oldestPostgres', 'mebibyte'],
  'src/doctor/stored.ts': ['dayMs'],
  'src/ephemeral/redis-inspection.ts': ['pings'],
  'src/cli/private-file.ts': ['bufferedCharacters'],
  'src/cli/users-export.ts': ['progressIntervalMs'],
  'src/cli/users-import.ts': ['progressIntervalMs', 'shownRefusals'],
  'src/crypto/foreign-hash.ts': ['aesKeyBytes', 'aesBlockBytes'],
  'src/crypto/foreign-spellings.ts': ['minChecksumBytes', 'minBcryptCost', 'memoryPerArgon2Lane'],
  'src/crypto/hash-pool.ts': ['defaultNiceness'],
  'src/crypto/one-time-code.ts': ['codeLength'],
  'src/crypto/password-policy.ts': ['minRemainingLetters', 'minRemainingDigits', 'minAddressPart'],
  'src/crypto/secrets.ts': ['keyBytes', 'ivBytes', 'tagBytes'],
  'src/db/copy-verify.ts': ['rowsPerReport'],
  'src/db/database.ts': ['defaultMaxConnections'],
  'src/db/failures.ts': ['sqliteForeignKeyError'],
  'src/db/postgres-dialect.ts': ['int8TypeId'],
  'src/db/postgres-url.ts': ['defaultPort'],
  'src/devices/flow.ts': ['ipv4PrefixBits', 'ipv6PrefixBits'],
  'src/ephemeral/redis-advice.ts': ['oldestMajorVersion'],
  'src/ephemeral/redis-clock.ts': ['samplesKept'],
  'src/ephemeral/redis-cluster.ts': ['pollEveryMs'],
  'src/ephemeral/redis-slots.ts': ['slotCount'],
  'src/http/listener.ts': ['sweepEveryMs'],
  'src/mail/routes.ts': ['refreshSeconds'],
  'src/redis-url.ts': ['serverPort', 'sentinelPort'],
  'src/smtp-url.ts': ['implicitTlsPort', 'submissionPort'],
  'src/start-error.ts': ['sqliteBusy'],
  'src/strict-json.ts': ['stepMaxLength'],
  'src/users/import-seen.ts': ['firstSlots'],
  'src/users/import-records.ts': ['lineFeed', 'carriageReturn', 'quote', 'comma'],
  'src/verification/flow.ts': ['minuteMs'],
};

/** Lists every limit. Throws where the source has a number that is neither listed nor said to be no limit. */
export function listLimits(): Limit[] {
  requireComplete();
  return Object.entries(meanings).flatMap(([room, files]) =>
    Object.entries(files).flatMap(([file, constants]) =>
      Object.entries(constants).map(([name, meaning]) => {
        const value = readConstant(file, name)
          .map((number) => formatLimit(name, number))
          .join(', ');
        return { room, meaning, value, place: `${file}: ${name}` };
      }),
    ),
  );
}

function requireComplete(): void {
  const listed = Object.values(meanings).flatMap((files) =>
    Object.entries(files).flatMap(([file, constants]) => Object.keys(constants).map((name) => `${file}: ${name}`)),
  );
  const known = new Set([
    ...listed,
    ...Object.entries(others).flatMap(([file, names]) => names.map((name) => `${file}: ${name}`)),
  ]);
  const found = listConstants();
  const unknown = found.filter((place) => !known.has(place));
  if (unknown.length > 0) throw new Error(`scripts/limits.ts says nothing of ${unknown.join(', ')}`);
}

/** Every constant of the source that is one number, or a product of numbers. */
function listConstants(): string[] {
  const files = globSync('src/**/*.ts', { cwd: root, exclude: ['src/**/*.test.ts'] }).sort();
  return files.flatMap((file) => {
    const constants = readSource(file).matchAll(/^(?:export )?const (\w+) = [\d_]+(?: \* [\d_]+)*;/gm);
    return [...constants].map(([, name = '']) => `${file}: ${name}`);
  });
}

/** Reads a constant, a list of them, or a member of a table of limits, from the source. */
function readConstant(file: string, name: string): number[] {
  const product = '[\\d_]+(?: \\* [\\d_]+)*';
  const pattern = new RegExp(
    `(?:\\bconst ${name} =|[ {]${name}:) (?:(${product})(?:[,;]| })|\\[((?:${product}[, ]*)+)\\])`,
  );
  const [, single, list] = pattern.exec(readSource(file)) ?? [];
  const products = single === undefined ? list?.split(', ') : [single];
  if (products === undefined) throw new Error(`${file} has no number named ${name}`);
  return products.map((text) =>
    text.split(' * ').reduce((value, factor) => value * Number(factor.replaceAll('_', '')), 1),
  );
}

/** Writes a value for people, with the unit that the name ends with. */
function formatLimit(name: string, value: number): string {
  if (/(?:Ms|Millis|[tT]imeout|_timeout)$/.test(name)) return formatDuration(value / 1000);
  if (/Seconds$/.test(name)) return formatDuration(value);
  if (/Bytes$/.test(name) && value % 1024 === 0) return formatBytes(value / 1024);
  return value.toLocaleString('en');
}

function formatDuration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
  ];
  const [size, unit] = units.find(([length]) => seconds >= length && seconds % length === 0) ?? [1, 's'];
  return seconds < 1 ? `${seconds * 1000} ms` : `${(seconds / size).toLocaleString('en')} ${unit}`;
}

function formatBytes(kibibytes: number): string {
  return kibibytes % 1024 === 0 ? `${kibibytes / 1024} MiB` : `${kibibytes} KiB`;
}

function readSource(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

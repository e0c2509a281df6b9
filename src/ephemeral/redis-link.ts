import { createClient, ErrorReply, type RespVersions } from '@redis/client';
import { answerWithin } from '../deadline.ts';
import { addressText, type RedisAddress, type RedisCredentials } from '../redis-url.ts';
import { redisScripts } from './redis-scripts.ts';

/** After this the caller of a command has left. */
export const commandDeadlineMs = 1_000;

const connectTimeoutMs = 2_000;
const maxQueuedCommands = 10_000;
const maxReconnectDelayMs = 1_000;
// A server that has gone without a word, as a machine does that loses its power, is noticed by its silence and not
// when the system gives up resending, which takes it a quarter of an hour. First it is sent nothing more; the
// connection is given up when every caller has left, so that what undoes their commands was sent on it too.
const quietLimitMs = 3_000;
const silenceLimitMs = quietLimitMs + commandDeadlineMs;
// A handshake sends nothing further, so here the socket's own clock does; it is wound up by every beat.
const idleTimeoutMs = 5_000;
const repeatErrorAfterMs = 10_000;

export type RedisClient = ReturnType<typeof createRedisClient>;

/** One connection to one server. It is made again for ever, queues nothing while it is away, and hears of silence. */
export type RedisLink = {
  readonly address: RedisAddress;
  readonly client: RedisClient;
  /** Connected, and the last beat was answered a moment ago. */
  readonly isReady: boolean;
  close(): void;
};

export type LinkOptions = {
  address: RedisAddress;
  isEncrypted: boolean;
  credentials: RedisCredentials;
  database?: number;
  /** Sentinels older than 6.2 know nothing newer than RESP 2. */
  respVersion?: RespVersions;
  /** What the server is in messages. */
  title: string;
  /**
   * Asks the server something, at once after connecting and then at this interval. Any answer shows that it lives;
   * what is returned is what is wrong with it.
   */
  beat: (client: RedisClient, isFirst: boolean) => Promise<string | undefined>;
  beatEveryMs: number;
  onError: (error: Error) => void;
};

function createRedisClient(options: Omit<LinkOptions, 'beat' | 'beatEveryMs' | 'onError' | 'title'>) {
  const { address, isEncrypted, credentials, database = 0, respVersion = 3 } = options;
  return createClient({
    ...credentials,
    database,
    RESP: respVersion,
    scripts: redisScripts,
    // A command must fail at once while the server is away: a queue would answer long after the caller left.
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxQueuedCommands,
    // This drops only what has not been written yet; callers have a deadline of their own.
    commandOptions: { timeout: commandDeadlineMs },
    // Notices of some hosted services would move this connection to another address behind our back.
    maintNotifications: 'disabled',
    socket: {
      host: address.host,
      port: address.port,
      ...(isEncrypted && { tls: true as const }),
      connectTimeout: connectTimeoutMs,
      socketTimeout: idleTimeoutMs,
      reconnectStrategy: (attempts) => Math.min(50 * 2 ** Math.min(attempts, 10), maxReconnectDelayMs),
    },
  });
}

/** Starts connecting and returns at once. */
export function openLink(options: LinkOptions): RedisLink {
  const { address, title, beat, beatEveryMs } = options;
  const client = createRedisClient(options);
  let connections = 0;
  let hasAnswered = false;
  let answeredAtMs = 0;
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  const { report, forget } = limitReports((error) => {
    const cause = error instanceof Error ? error : new Error(String(error));
    // Leaving cuts what is still being connected, which is nobody's trouble.
    if (isClosed) return;
    const failure = new Error(`${title} at ${addressText(address)}: ${cause.message}`, { cause });
    // What operators search a log for.
    options.onError('code' in cause ? Object.assign(failure, { code: cause.code }) : failure);
  });

  function connect(): void {
    client.connect().catch(report);
  }

  function noteAnswer(): void {
    hasAnswered = true;
    answeredAtMs = performance.now();
  }

  async function beatOnce(connection: number, isFirst: boolean): Promise<void> {
    const isGone = () => connection !== connections || !client.isReady || isClosed;
    try {
      const complaint = await answerWithin(silenceLimitMs, beat(client, isFirst));
      if (isGone()) return;
      noteAnswer();
      if (complaint === undefined) forget();
      else report(new Error(complaint));
    } catch (error) {
      if (isGone()) return;
      report(error);
      if (error instanceof ErrorReply) noteAnswer();
      else if (performance.now() - answeredAtMs >= silenceLimitMs) {
        client.destroy();
        return connect();
      }
    }
    timer = setTimeout(beatOnce, beatEveryMs, connection, false);
  }

  client.on('error', report);
  client.on('ready', () => {
    connections += 1;
    hasAnswered = false;
    answeredAtMs = performance.now();
    clearTimeout(timer);
    beatOnce(connections, true);
  });
  // A connection that was being made when it was closed is otherwise finished and kept.
  client.on('connect', () => {
    if (isClosed) client.destroy();
  });
  connect();

  return {
    address,
    client,
    get isReady() {
      return client.isReady && hasAnswered && performance.now() - answeredAtMs < quietLimitMs;
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      client.destroy();
    },
  };
}

/**
 * Lets the same words through once in a while, so that a server that is away for long does not fill the log, and
 * at once again after it was there.
 */
export function limitReports(report: (error: unknown) => void) {
  let lastWords = '';
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  return {
    report(error: unknown): void {
      const words = error instanceof Error ? error.message : String(error);
      const nowMs = performance.now();
      if (words === lastWords && nowMs - reportedAtMs < repeatErrorAfterMs) return;
      lastWords = words;
      reportedAtMs = nowMs;
      report(error);
    },
    forget(): void {
      reportedAtMs = Number.NEGATIVE_INFINITY;
    },
  };
}

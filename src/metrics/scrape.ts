import type { Clock } from '../clock.ts';
import type { PasswordHasher } from '../crypto/passwords.ts';
import type { Database } from '../db/database.ts';
import { answerWithin } from '../deadline.ts';
import type { EphemeralStore } from '../ephemeral/store.ts';
import type { Outbox } from '../mail/outbox.ts';
import type { ComponentState, Metrics } from './metrics.ts';

type Sources = {
  metrics: Pick<Metrics, 'render'>;
  /** Undefined where nobody asked for those of the process. */
  processMetrics: { render(): Promise<string> } | undefined;
  database: Pick<Database, 'ping' | 'poolState'>;
  ephemeral: Pick<EphemeralStore, 'ping'>;
  outbox: Pick<Outbox, 'depth' | 'serverState'>;
  passwords: Pick<PasswordHasher, 'waiting'>;
  clock: Clock;
};

// Well under the ten seconds that Prometheus waits by default, and under half of the shortest usual interval.
const lookDeadlineMs = 1_500;
// Several scrapers, or one that is impatient, cost the components no more than one.
const freshForMs = 1_000;

/**
 * Creates the scrape: looks at the components and writes everything down. Whatever does not answer in time is down. At
 * most one look at each component is under way, so that scrapes of a database that hangs do not use its pool up.
 */
export function createScrape(sources: Sources): () => Promise<string> {
  const lookAtDatabase = createLook(async () => {
    await sources.database.ping();
    const { messages, oldestCreatedAtMs } = await sources.outbox.depth();
    const ageMs = oldestCreatedAtMs === undefined ? 0 : sources.clock.now() - oldestCreatedAtMs;
    // Another machine's clock may be ahead.
    return { messages, oldestAgeSeconds: Math.max(0, ageMs / 1000) };
  });
  const lookAtEphemeral = createLook(async () => {
    await sources.ephemeral.ping();
    return true;
  });

  async function look(): Promise<ComponentState> {
    const [outbox, ephemeral] = await Promise.all([lookAtDatabase(), lookAtEphemeral()]);
    return {
      up: {
        database: outbox !== undefined,
        ephemeral: ephemeral !== undefined,
        mail: sources.outbox.serverState() === 'up',
      },
      outbox,
      hashWaiting: sources.passwords.waiting(),
      pool: sources.database.poolState(),
    };
  }

  let last: Promise<ComponentState> | undefined;
  let freshUntilMs = Number.NEGATIVE_INFINITY;
  function lookOnce(): Promise<ComponentState> {
    if (last !== undefined && performance.now() < freshUntilMs) return last;
    // Fresh from when it is done: until then everybody waits for the same one.
    freshUntilMs = Number.POSITIVE_INFINITY;
    last = look().finally(() => {
      freshUntilMs = performance.now() + freshForMs;
    });
    return last;
  }

  return async () => {
    const state = await lookOnce();
    const parts = await Promise.all([sources.metrics.render(state), sources.processMetrics?.render() ?? '']);
    return parts.join('');
  };
}

/** A look that answers in time or with undefined. One that is late goes on, and the next scrape waits for the same. */
function createLook<T>(look: () => Promise<T>): () => Promise<T | undefined> {
  let underWay: Promise<T> | undefined;
  return async () => {
    underWay ??= look().finally(() => {
      underWay = undefined;
    });
    try {
      return await answerWithin(lookDeadlineMs, underWay);
    } catch {
      return undefined;
    }
  };
}

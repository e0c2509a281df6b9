import { setTimeout as sleep } from 'node:timers/promises';
import type { OutboxRow } from '../db/schema.ts';
import { createAttempts, type DeliveryOptions } from './attempts.ts';
import { createServerWatch, type ServerState } from './server-watch.ts';
import { claimDueRows } from './store.ts';
import { DeliveryError } from './transport.ts';

/** Takes messages out of the outbox and delivers them. */
export type Delivery = {
  /** Delivers soon, without being waited for. */
  wake(): void;
  /** Delivers everything that is due and resolves when each has been tried once. */
  deliverDue(): Promise<void>;
  /** Whether mail gets through, as far as is known. Answers at once. */
  serverState(): ServerState;
  start(): void;
  /** Waits a moment for the deliveries under way and gives the others back, for any instance to take at once. */
  close(): Promise<void>;
};

const pollEveryMs = 1_000;
// Longer than the transport lets a delivery take, so that a slow server's message is not sent twice.
const leaseMs = 120_000;
const closeLimitMs = 2_000;

/** Creates the delivery over a transport. */
export function createDelivery(options: DeliveryOptions): Delivery {
  const { db, clock, transport, report } = options;
  const watch = createServerWatch(report);
  const attempts = createAttempts(options, watch, claimMore);
  const inFlight = new Map<string, Promise<void>>();
  let timer: NodeJS.Timeout | undefined;
  let claiming: Promise<void> | undefined;
  // Stays true while every place is taken, so that the next one to fall free claims again.
  let isWanted = false;
  let isUnreachable = false;
  let isLooking = false;
  let isClosing = false;

  function launch(row: OutboxRow): void {
    const attempt = attempts
      .run(row)
      .catch(reportUnreachable)
      .finally(() => {
        inFlight.delete(row.id);
        claimMore();
      });
    inFlight.set(row.id, attempt);
  }

  function claimMore(): void {
    if (isWanted) wake();
  }

  function reportUnreachable(error: unknown): void {
    // Once for an outage of the database, in which every turn of the timer fails alike.
    if (!isUnreachable) report({ type: 'outbox_unreachable', error });
    isUnreachable = true;
  }

  async function claimWhileWanted(): Promise<void> {
    try {
      do {
        isWanted = false;
        // First, because what was accepted would be sent again when its lease is over.
        await attempts.removeAccepted();
        const nowMs = clock.now();
        const places = watch.places(nowMs) - inFlight.size;
        if (places < 1) return;
        const rows = await claimDueRows(db, { nowMs, leaseUntilMs: nowMs + leaseMs, batch: places });
        isUnreachable = false;
        for (const row of rows) launch(row);
        if (rows.length === places) isWanted = true;
      } while (isWanted && mayClaim());
    } finally {
      claiming = undefined;
    }
  }

  function mayClaim(): boolean {
    return inFlight.size < watch.places(clock.now()) && !isClosing;
  }

  async function claim(): Promise<void> {
    isWanted = true;
    if (claiming === undefined && mayClaim()) claiming = claimWhileWanted();
    await claiming;
  }

  function wake(): void {
    claim().catch(reportUnreachable);
  }

  /** What waits is the best look at the server, so it goes first; the server itself is asked where none has told. */
  async function poll(): Promise<void> {
    await claim().catch(reportUnreachable);
    if (inFlight.size === 0 && !isLooking && !isClosing && watch.isLookDue(clock.now())) await look();
  }

  async function look(): Promise<void> {
    isLooking = true;
    try {
      await transport.verify();
      watch.noteLetIn(clock.now());
      wake();
    } catch (error) {
      const isServers = error instanceof DeliveryError && !isClosing;
      if (isServers) watch.noteTrouble(error, clock.now(), !attempts.isSending());
    } finally {
      isLooking = false;
    }
  }

  async function settle(): Promise<void> {
    while (claiming !== undefined || inFlight.size > 0) await (claiming ?? Promise.race(inFlight.values()));
  }

  return {
    wake,
    serverState: watch.state,

    async deliverDue() {
      await claim();
      await settle();
    },

    start() {
      timer ??= setInterval(poll, pollEveryMs).unref();
      void poll();
    },

    async close() {
      isClosing = true;
      clearInterval(timer);
      await Promise.race([settle().catch(() => {}), sleep(closeLimitMs, undefined, { ref: false })]);
      await attempts.release([...inFlight.keys()]);
    },
  };
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import type { Keyring } from '../crypto/secrets.ts';
import type { Db, OutboxRow } from '../db/schema.ts';
import { openMail } from './sealed-mail.ts';
import { claimDueRows, deleteOutboxRow, postponeOutboxRow } from './store.ts';
import type { MailTransport } from './transport.ts';

/** Takes messages out of the outbox and delivers them. */
export type Delivery = {
  /** Delivers soon, without being waited for. */
  wake(): void;
  /** Delivers everything that is due and resolves when each has been tried once. */
  deliverDue(): Promise<void>;
  start(): void;
  /** Waits a moment for the deliveries under way and gives the others back, for any instance to take at once. */
  close(): Promise<void>;
};

/** What a delivery needs. */
export type DeliveryOptions = {
  db: Db;
  clock: Clock;
  keyring: Keyring;
  transport: MailTransport;
  onFailure: (failure: { id: string; attempts: number; error: unknown }) => void;
};

// Places for deliveries. One that is slow takes one place, and the rest go on.
const maxInFlight = 10;
const pollEveryMs = 1_000;
// Longer than the transport lets a delivery take, so that a slow server's message is not sent twice.
const leaseMs = 120_000;
const closeLimitMs = 2_000;
const firstRetryMs = 2_000;
const maxRetryMs = 300_000;

/** Creates the delivery over a transport. */
export function createDelivery(options: DeliveryOptions): Delivery {
  const { db, clock, transport } = options;
  const inFlight = new Map<string, Promise<void>>();
  let timer: NodeJS.Timeout | undefined;
  let claiming: Promise<void> | undefined;
  // Stays true while every place is taken, so that the next one to fall free claims again.
  let isWanted = false;
  let isClosing = false;
  // From here on a failure is the closed transport's, and the row has been given back already.
  let isReleased = false;

  function launch(row: OutboxRow): void {
    const delivery = deliver(options, row)
      .catch((error: unknown) => (isReleased ? undefined : retryLater(options, row, error)))
      .catch((error: unknown) => options.onFailure({ id: row.id, attempts: row.attempts, error }))
      .finally(() => {
        inFlight.delete(row.id);
        if (isWanted) wake();
      });
    inFlight.set(row.id, delivery);
  }

  async function claimWhileWanted(): Promise<void> {
    try {
      do {
        isWanted = false;
        const nowMs = clock.now();
        const places = maxInFlight - inFlight.size;
        const rows = await claimDueRows(db, { nowMs, leaseUntilMs: nowMs + leaseMs, batch: places });
        for (const row of rows) launch(row);
        if (rows.length === places) isWanted = true;
      } while (isWanted && mayClaim());
    } finally {
      claiming = undefined;
    }
  }

  function mayClaim(): boolean {
    return inFlight.size < maxInFlight && !isClosing;
  }

  async function claim(): Promise<void> {
    isWanted = true;
    if (claiming === undefined && mayClaim()) claiming = claimWhileWanted();
    await claiming;
  }

  function wake(): void {
    claim().catch((error: unknown) => options.onFailure({ id: 'batch', attempts: 0, error }));
  }

  async function settle(): Promise<void> {
    while (claiming !== undefined || inFlight.size > 0) await (claiming ?? Promise.race(inFlight.values()));
  }

  return {
    wake,

    async deliverDue() {
      await claim();
      await settle();
    },

    start() {
      timer ??= setInterval(wake, pollEveryMs).unref();
    },

    async close() {
      isClosing = true;
      clearInterval(timer);
      await Promise.race([settle().catch(() => {}), sleep(closeLimitMs, undefined, { ref: false })]);
      isReleased = true;
      await transport.close();
      await Promise.all([...inFlight.keys()].map((id) => postponeOutboxRow(db, id, clock.now())));
    },
  };
}

async function deliver({ db, clock, keyring, transport }: DeliveryOptions, row: OutboxRow): Promise<void> {
  // An expired message is not even opened: one sealed under a secret that is gone must end too.
  if (row.expires_at > clock.now()) {
    const mail = openMail(keyring, row.id, row.sealed_message);
    const isDecoy = mail.to === '';
    if (!isDecoy) await transport.send(mail);
  }
  await deleteOutboxRow(db, row.id);
}

async function retryLater(options: DeliveryOptions, row: OutboxRow, error: unknown): Promise<void> {
  options.onFailure({ id: row.id, attempts: row.attempts, error });
  const delayMs = Math.min(firstRetryMs * 2 ** (row.attempts - 1), maxRetryMs);
  await postponeOutboxRow(options.db, row.id, options.clock.now() + delayMs);
}

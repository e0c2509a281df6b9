/** Why a session is over. `elsewhere` stands for the tokens gone from a shared storage, nobody having said why. */
export type SignedOutReason =
  | 'logout'
  | 'account_deleted'
  | 'invalid_refresh_token'
  | 'refresh_token_reused'
  | 'elsewhere';

/** What one tab tells the others. It holds no token: every script of the origin can listen. */
type Message =
  | { kind: 'signed_in'; session: string }
  | { kind: 'signed_out'; session: string; reason: SignedOutReason };

/** What tabs that share a storage do together. */
export type Tabs = {
  /** Does the work while no other tab does its own, and says whether another has just done so. */
  alone<Result>(work: (hasWaited: boolean) => Promise<Result>): Promise<Result>;
  tell(message: Message): void;
  close(): void;
};

/** The part of the Web Locks API that is used here; Node.js's types do not have it. */
type Locks = {
  request<Result>(
    name: string,
    options: { signal: AbortSignal } | { ifAvailable: true },
    work: (lock: object | null) => Promise<Result>,
  ): Promise<Result>;
};

/**
 * A tab that the browser has frozen may keep its lock for hours. After this long the work is done without it: the
 * service gives the same successor to the same token within its grace, which is longer.
 */
const lockWaitMs = 10_000;

/** Joins the tabs that share a storage by its name. Without a name this page is alone. */
export function joinTabs(name: string | undefined, hear: (message: Message) => void): Tabs {
  if (name === undefined) return { alone: (work) => work(false), tell: () => {}, close: () => {} };
  const channel = openChannel(`${name}:session`, hear);
  return {
    alone: (work) => withLock(`${name}:refresh`, work),
    tell: (message) => channel?.postMessage(message),
    close: () => channel?.close(),
  };
}

/** Browsers without channels learn of a change at their next call, from the storage. */
function openChannel(name: string, hear: (message: Message) => void): BroadcastChannel | undefined {
  if (typeof BroadcastChannel === 'undefined') return undefined;
  const channel = new BroadcastChannel(name);
  channel.onmessage = (event) => {
    const { data } = event as { data?: unknown };
    if (isMessage(data)) hear(data);
  };
  // In Node.js an open channel would keep the process from ending.
  (channel as { unref?: () => unknown }).unref?.();
  return channel;
}

function isMessage(data: unknown): data is Message {
  if (typeof data !== 'object' || data === null) return false;
  const { kind, session, reason } = data as Record<string, unknown>;
  if (typeof session !== 'string') return false;
  return kind === 'signed_in' || (kind === 'signed_out' && typeof reason === 'string');
}

async function withLock<Result>(name: string, work: (hasWaited: boolean) => Promise<Result>): Promise<Result> {
  // Old browsers have no locks and pages that came over plain HTTP may not use them. There the grace of the service is
  // what keeps two tabs that refresh at once signed in.
  const { locks } = (globalThis.navigator ?? {}) as { locks?: Locks };
  if (locks === undefined) return work(false);
  let started: Promise<Result> | undefined;
  const start = (hasWaited: boolean) => {
    started = work(hasWaited);
    return started;
  };
  try {
    await locks.request(name, { ifAvailable: true }, async (lock) => lock && start(false));
    const signal = AbortSignal.timeout(lockWaitMs);
    if (started === undefined) await locks.request(name, { signal }, () => start(true));
  } catch {
    // Either the wait was too long, or the work failed, which its own promise says.
  }
  return started ?? work(true);
}

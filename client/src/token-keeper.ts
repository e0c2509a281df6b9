import { LatchkeyError } from './latchkey-error.ts';
import { joinTabs, type SignedOutReason, type Tabs } from './tabs.ts';
import { parseStoredTokens, type StoredTokens, type TokenStorage } from './token-storage.ts';

/** What the application is told of. */
export type SessionEvents = {
  signedIn(): void;
  signedOut(reason: SignedOutReason): void;
  storageFailed(error: LatchkeyError): void;
};

/** The tokens as this page and the tabs that share its storage have them. */
export type TokenKeeper = {
  read(): Promise<StoredTokens | undefined>;
  /** Reads the tokens of whoever is signed in; throws where nobody is, or nobody is any more. */
  get(): Promise<StoredTokens>;
  keep(tokens: StoredTokens): Promise<StoredTokens>;
  /** Tells everybody that somebody has signed in. */
  announce(session: string): void;
  /** Forgets the tokens, tells everybody, and returns the refresh token that there was. */
  end(reason: SignedOutReason): Promise<string | undefined>;
  alone: Tabs['alone'];
  close(): void;
};

/** Keeps the tokens in a storage that may fail, and in step with the other tabs. */
export function keepTokens(storage: TokenStorage, events: SessionEvents): TokenKeeper {
  // The session that the application takes to be on.
  let known: string | undefined;
  // What could not be stored is held here: the service has already replaced what the storage has.
  let unsaved: StoredTokens | undefined;
  // What could not be removed is over all the same. A browser may also show a tab what another has just removed.
  let ended: string | undefined;

  const tabs: Tabs = joinTabs(storage.name, (message) => {
    unsaved = undefined;
    if (message.kind === 'signed_in') {
      known = message.session;
      events.signedIn();
    } else {
      ended = message.session;
      if (known === message.session) noteEnd(message.reason);
    }
  });

  function noteEnd(reason: SignedOutReason): void {
    if (known === undefined) return;
    known = undefined;
    events.signedOut(reason);
  }

  async function read(): Promise<StoredTokens | undefined> {
    if (unsaved !== undefined) return unsaved;
    try {
      const tokens = parseStoredTokens(await storage.read());
      if (tokens === undefined || tokens.session === ended) return undefined;
      known = tokens.session;
      return tokens;
    } catch (error) {
      throw storageError('the tokens could not be read', error);
    }
  }

  async function keep(tokens: StoredTokens): Promise<StoredTokens> {
    known = tokens.session;
    try {
      await storage.write(tokens);
      unsaved = undefined;
    } catch (error) {
      unsaved = tokens;
      events.storageFailed(storageError('the tokens could not be stored; they are lost with this page', error));
    }
    return tokens;
  }

  async function end(reason: SignedOutReason): Promise<string | undefined> {
    let tokens: StoredTokens | undefined;
    try {
      tokens = await read();
      ended = tokens?.session ?? ended;
      await storage.remove();
    } catch (error) {
      events.storageFailed(storageError('the tokens could not be removed', error));
    }
    unsaved = undefined;
    if (tokens !== undefined) tabs.tell({ kind: 'signed_out', session: tokens.session, reason });
    noteEnd(reason);
    return tokens?.refresh_token;
  }

  async function get(): Promise<StoredTokens> {
    const tokens = await read();
    if (tokens !== undefined) return tokens;
    noteEnd('elsewhere');
    throw new LatchkeyError('signed_out', 'nobody is signed in');
  }

  return {
    read,
    get,
    keep,
    announce(session) {
      tabs.tell({ kind: 'signed_in', session });
      events.signedIn();
    },
    end,
    alone: tabs.alone,
    close: tabs.close,
  };
}

function storageError(message: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('storage_failed', message, { cause });
}

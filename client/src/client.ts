import { type LoginResponse, publicOperations, type User } from './api-types.ts';
import { type CallOptions, requireTimeLimit, startDeadline, waitUntil } from './deadline.ts';
import { isLatchkeyError, type LatchkeyError } from './latchkey-error.ts';
import type { AnyInput, BodyOf, InputOf, OperationName, QueryOf, ResultOf } from './operation.ts';
import { endSession } from './refresh.ts';
import { createSession } from './session.ts';
import type { SignedOutReason } from './tabs.ts';
import { keepTokens } from './token-keeper.ts';
import { memoryTokens, type TokenStorage } from './token-storage.ts';
import { createTransport } from './transport.ts';

/** How long a call may take where nothing else is said, in milliseconds. */
const defaultTimeoutMs = 30_000;

/** What `REFRESH_REUSE_GRACE_SECONDS` of the service is by default. */
const defaultReuseGraceSeconds = 30;

/** What a client is made with. */
export type ClientOptions = {
  /** Where the service is, such as `https://auth.example.com`. */
  baseUrl: string;
  /** Where the tokens are kept; in this page's memory by default. */
  storage?: TokenStorage | undefined;
  /** How long a call may take, in milliseconds; 30,000 by default. */
  timeoutMs?: number | undefined;
  /** What `REFRESH_REUSE_GRACE_SECONDS` of the service is; 30 by default. With 0, no lost answer is asked for again. */
  reuseGraceSeconds?: number | undefined;
  /** What requests are made with; the platform's own by default. */
  fetch?: typeof fetch | undefined;
  /** The clock that the age of a token is counted by, in milliseconds; `Date.now` by default. */
  now?: (() => number) | undefined;
};

/** These change who is signed in, and only the named functions see to the tokens then. */
type SessionOperation =
  | 'POST /auth/register'
  | 'POST /auth/login'
  | 'POST /auth/login/code'
  | 'POST /auth/refresh'
  | 'POST /auth/logout'
  | 'DELETE /users/me';

/** The operations that `request` reaches. */
export type RequestName = Exclude<OperationName, SessionOperation>;

/** The input may be left out where an operation needs none. */
type RequestArguments<Name extends OperationName> =
  Record<never, never> extends InputOf<Name>
    ? [input?: InputOf<Name> & CallOptions]
    : [input: InputOf<Name> & CallOptions];

/** The client. Every function rejects with a `LatchkeyError`, or with the reason of the caller's own signal. */
export type LatchkeyClient = {
  /** Mails a code; the answer is the same whether the address has an account or not. */
  sendCode(body: BodyOf<'POST /auth/send-code'>, options?: CallOptions): Promise<ResultOf<'POST /auth/send-code'>>;
  /** Turns a code into the token that proves the address, once and for the purpose of the code. */
  verifyCode(
    body: BodyOf<'POST /auth/verify-code'>,
    options?: CallOptions,
  ): Promise<ResultOf<'POST /auth/verify-code'>>;
  /** Makes an account at a proved address and signs in to it. */
  register(body: BodyOf<'POST /auth/register'>, options?: CallOptions): Promise<User>;
  /** Signs in with a password. */
  logIn(body: BodyOf<'POST /auth/login'>, options?: CallOptions): Promise<User>;
  /** Signs in with the verification token of a code that was mailed for it. */
  logInWithCode(body: BodyOf<'POST /auth/login/code'>, options?: CallOptions): Promise<User>;
  /** Proves again who the user is, for what asks for it with `insufficient_user_authentication`. */
  reauthenticate(body: BodyOf<'POST /auth/reauthenticate'>, options?: CallOptions): Promise<void>;
  /** Sets a new password at a proved address; every session of the account ends. */
  resetPassword(body: BodyOf<'POST /auth/reset-password'>, options?: CallOptions): Promise<void>;
  /** Changes the password; every other session of the account ends. */
  changePassword(body: BodyOf<'PUT /users/me/password'>, options?: CallOptions): Promise<void>;
  /** Reads the account that is signed in. */
  getMe(options?: CallOptions): Promise<User>;
  /** Changes what the user may change of it. */
  updateMe(body: BodyOf<'PATCH /users/me'>, options?: CallOptions): Promise<User>;
  /** Deletes the account, after which nobody is signed in. */
  deleteMe(options?: CallOptions): Promise<void>;
  /** Lists where the account is signed in. */
  listMySessions(
    query?: QueryOf<'GET /users/me/sessions'>,
    options?: CallOptions,
  ): Promise<ResultOf<'GET /users/me/sessions'>>;
  /** Ends one session of the account. */
  endMySession(id: string, options?: CallOptions): Promise<void>;
  /** Ends every session of the account but this one. */
  endMyOtherSessions(options?: CallOptions): Promise<void>;
  /**
   * Signs out, here at once and in the tabs that share the storage. Rejects where the service could not be told that the
   * session is over; nobody is signed in here then either.
   */
  logOut(options?: CallOptions): Promise<void>;
  /** Calls any other operation by its method and path, administration included. */
  request<Name extends RequestName>(operation: Name, ...args: RequestArguments<Name>): Promise<ResultOf<Name>>;
  /** An access token for your own services, renewed if it must be. */
  getAccessToken(options?: CallOptions): Promise<string>;
  /** Whether there are tokens. Whether the service still takes them, a call tells. */
  isSignedIn(): Promise<boolean>;
  /** Calls back when somebody signs in, here or in another tab. Returns what ends that. */
  onSignedIn(listener: () => void): () => void;
  /** Calls back once when the session is over, wherever and however that came. Returns what ends that. */
  onSignedOut(listener: (reason: SignedOutReason) => void): () => void;
  /** Calls back when tokens could not be stored or removed; the page works on. Returns what ends that. */
  onStorageFailed(listener: (error: LatchkeyError) => void): () => void;
  /** Leaves the other tabs. The session stays. */
  close(): void;
};

/** Makes a client of one service. Make one for a page and share it. */
export function createClient(options: ClientOptions): LatchkeyClient {
  const { storage = memoryTokens(), timeoutMs = defaultTimeoutMs, now = Date.now } = options;
  const { reuseGraceSeconds = defaultReuseGraceSeconds } = options;
  requireTimeLimit(timeoutMs);
  const transport = createTransport(options.baseUrl, options.fetch ?? ((...args) => fetch(...args)));
  const signedIn = createListeners<void>();
  const signedOut = createListeners<SignedOutReason>();
  const storageFailed = createListeners<LatchkeyError>();
  const events = { signedIn: signedIn.call, signedOut: signedOut.call, storageFailed: storageFailed.call };
  const keeper = keepTokens(storage, events);
  const session = createSession({ transport, keeper, now, reuseGraceSeconds });

  async function perform<Name extends OperationName>(
    operation: Name,
    input: AnyInput,
    callOptions: CallOptions = {},
  ): Promise<ResultOf<Name>> {
    const deadline = startDeadline(callOptions, timeoutMs);
    if (publicOperations.includes(operation)) return transport({ operation, input, deadline });
    const tokens = await session.obtain(deadline);
    try {
      return await transport({ operation, input, accessToken: tokens.access_token, deadline });
    } catch (error) {
      // The service judges the token before it does anything, so this one refusal proves that nothing was done.
      if (!isLatchkeyError(error, 'invalid_token')) throw error;
      const next = await session.replace(tokens, deadline);
      return await transport({ operation, input, accessToken: next.access_token, deadline });
    }
  }

  async function signIn(
    operation: 'POST /auth/register' | 'POST /auth/login' | 'POST /auth/login/code',
    body: unknown,
    callOptions?: CallOptions,
  ): Promise<User> {
    const askedAtMs = now();
    const reply: LoginResponse = await perform(operation, { body }, callOptions);
    await session.begin(reply, askedAtMs);
    return reply.user;
  }

  return {
    sendCode: (body, call) => perform('POST /auth/send-code', { body }, call),
    verifyCode: (body, call) => perform('POST /auth/verify-code', { body }, call),
    register: (body, call) => signIn('POST /auth/register', body, call),
    logIn: (body, call) => signIn('POST /auth/login', body, call),
    logInWithCode: (body, call) => signIn('POST /auth/login/code', body, call),
    reauthenticate: (body, call) => perform('POST /auth/reauthenticate', { body }, call),
    resetPassword: (body, call) => perform('POST /auth/reset-password', { body }, call),
    changePassword: (body, call) => perform('PUT /users/me/password', { body }, call),
    getMe: (call) => perform('GET /users/me', {}, call),
    updateMe: (body, call) => perform('PATCH /users/me', { body }, call),
    async deleteMe(call) {
      await perform('DELETE /users/me', {}, call);
      await keeper.end('account_deleted');
    },
    listMySessions: (query, call) => perform('GET /users/me/sessions', { query }, call),
    endMySession: (id, call) => perform('DELETE /users/me/sessions/{id}', { path: { id } }, call),
    endMyOtherSessions: (call) => perform('DELETE /users/me/sessions', {}, call),
    async logOut(call = {}) {
      const deadline = startDeadline(call, timeoutMs);
      const refreshToken = await keeper.end('logout');
      if (refreshToken !== undefined) await waitUntil(endSession({ transport }, refreshToken), deadline);
    },
    request: (operation, ...[input = {}]) => perform(operation, input as AnyInput, input as CallOptions),
    getAccessToken: async (call = {}) => (await session.obtain(startDeadline(call, timeoutMs))).access_token,
    isSignedIn: async () => (await keeper.read()) !== undefined,
    onSignedIn: signedIn.add,
    onSignedOut: signedOut.add,
    onStorageFailed: storageFailed.add,
    close: keeper.close,
  };
}

function createListeners<Value>() {
  const listeners = new Set<(value: Value) => void>();
  return {
    add(listener: (value: Value) => void): () => void {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    call(value: Value): void {
      // In turns of their own: what a listener throws is reported as its own and stops no call.
      for (const listener of listeners) queueMicrotask(() => listener(value));
    },
  };
}

import { createClient, isLatchkeyError, localStorageTokens } from './client/index.js';
import { element, fillList, say, show } from './view.js';

const { service } = await (await fetch('/settings.json')).json();
// The tokens outlive a reload and all tabs share them; docs/browser-applications.md says what that costs.
const auth = createClient({ baseUrl: service, storage: localStorageTokens() });
element('mailbox').href = `${service}/dev/mailbox`;

const sentences = {
  invalid_credentials: 'The address or the password is not right.',
  invalid_code: 'That code is not right, or not the newest. Look at the newest mail.',
  invalid_verification_token: 'That took too long. Ask for a new code.',
  account_exists: 'There is an account at this address. Sign in instead.',
  password_rejected: 'That password is too easy to guess. Choose another.',
  too_many_requests: 'That was too often.',
  temporarily_unavailable: 'The service is not available right now.',
  network_error: 'The service does not answer. Is it running?',
  timeout: 'The service does not answer. Is it running?',
  insufficient_permission: 'Your roles do not allow this.',
  too_many_notes: 'There is no room for more notes.',
};
const farewells = {
  logout: 'You are signed out.',
  account_deleted: 'Your account is deleted.',
  invalid_refresh_token: 'Your session is over. Sign in again.',
  refresh_token_reused: 'Your session was used from elsewhere and is over. Sign in again.',
  elsewhere: 'You are signed out.',
};

/** The problem of a call of our own API, so that both kinds are said in one place. */
class ApiError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** Calls our own API as whoever is signed in. */
async function callApi(method, path, body) {
  const answer = await fetch(`/api${path}`, {
    method,
    headers: {
      authorization: `Bearer ${await auth.getAccessToken()}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.status === 204) return undefined;
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  throw new ApiError(answer.headers.get('content-type')?.includes('json') ? JSON.parse(text).code : 'unknown');
}

function describe(error) {
  const wait = isLatchkeyError(error) && error.retryAfterSeconds ? ` Wait ${error.retryAfterSeconds} seconds.` : '';
  const field = isLatchkeyError(error) ? error.problem?.errors?.[0]?.message : undefined;
  const sentence = sentences[error.code] ?? (field && `That ${field}.`);
  return (sentence ?? 'That did not work.') + wait;
}

/** Runs what a form or a button asks for: one thing at a time, with what went wrong said in words. */
function perform(control, work) {
  const isForm = control instanceof HTMLFormElement;
  control.addEventListener(isForm ? 'submit' : 'click', async (event) => {
    event.preventDefault();
    const button = isForm ? control.querySelector('button') : control;
    button.disabled = true;
    say('problem', '');
    say('message', '');
    try {
      await work(isForm ? Object.fromEntries(new FormData(control)) : undefined);
    } catch (error) {
      // A session that is over is told by onSignedOut.
      if (!['signed_out', 'invalid_refresh_token', 'refresh_token_reused'].includes(error.code)) {
        say('problem', describe(error));
      }
    } finally {
      button.disabled = false;
    }
  });
}

// Signing in and up.

let proving;

function startOver() {
  proving = undefined;
  element('use-code').reset();
  show('use-code', false);
  show('send-code', true);
}

perform(element('sign-in'), async ({ email, password }) => {
  await auth.logIn({ email, password });
});

perform(element('send-code'), async ({ email, purpose }) => {
  await auth.sendCode({ email, purpose });
  proving = { email, purpose };
  element('code-address').textContent = email;
  show('new-password', purpose !== 'login');
  element('use-code').elements.password.required = purpose !== 'login';
  show('send-code', false);
  show('use-code', true);
  element('use-code').elements.code.focus();
});

perform(element('use-code'), async ({ code, password }) => {
  const { email, purpose } = proving;
  // A proof is good for one use. A password that is refused does not spend it, so it is kept for the next try.
  proving.token ??= (await auth.verifyCode({ email, purpose, code })).verification_token;
  const verification_token = proving.token;
  if (purpose === 'registration') await auth.register({ verification_token, password });
  if (purpose === 'login') await auth.logInWithCode({ verification_token });
  if (purpose === 'password_reset') {
    await auth.resetPassword({ verification_token, new_password: password });
    await auth.logIn({ email, password });
  }
});

element('start-over').addEventListener('click', startOver);
perform(element('sign-out'), () => auth.logOut());

// What is there for whoever is signed in.

async function loadNotes() {
  const { items } = await callApi('GET', '/notes');
  show('no-notes', items.length === 0);
  show('remove-notes', items.length > 0);
  fillList('notes', items, (note) => ({
    text: note.text,
    detail: new Date(note.created_at).toLocaleString(),
    action: { name: 'Delete', label: `Delete: ${note.text}`, run: () => removeNote(note.id) },
  }));
}

const removeNote = async (id) => {
  await callApi('DELETE', `/notes/${encodeURIComponent(id)}`);
  await loadNotes();
};

async function loadSessions() {
  const { items } = await auth.listMySessions({ limit: 20 });
  show('end-others', items.length > 1);
  fillList('sessions', items, (session) => ({
    text: session.device ?? 'Unknown device',
    detail: `${session.client_address}, since ${new Date(session.created_at).toLocaleString()}`,
    mark: session.current ? 'this one' : undefined,
    action: session.current ? undefined : { name: 'End', label: 'End this session', run: () => endSession(session.id) },
  }));
}

const endSession = async (id) => {
  await auth.endMySession(id);
  await loadSessions();
};

perform(element('add-note'), async ({ text }) => {
  await callApi('POST', '/notes', { text });
  element('add-note').reset();
  await loadNotes();
});

perform(element('remove-notes'), async () => {
  if (!window.confirm('Delete all of your notes?')) return;
  await callApi('DELETE', '/notes');
  await loadNotes();
});

perform(element('end-others'), async () => {
  await auth.endMyOtherSessions();
  await loadSessions();
  say('message', 'You are signed out everywhere else.');
});

async function showSignedIn() {
  const me = await auth.getMe();
  startOver();
  element('sign-in').reset();
  element('name').textContent = me.name ?? me.email;
  show('signed-out', false);
  for (const id of ['who', 'signed-in']) show(id, true);
  await Promise.all([loadNotes(), loadSessions()]);
}

function showSignedOut(sentence = '') {
  for (const id of ['who', 'signed-in']) show(id, false);
  for (const id of ['notes', 'sessions']) element(id).replaceChildren();
  element('name').textContent = '';
  show('signed-out', true);
  say('message', sentence);
}

const report = (error) => say('problem', describe(error));

// Called for what happens here and in every other tab alike, and for the list's own buttons through the view.
auth.onSignedIn(() => {
  say('message', '');
  showSignedIn().catch(report);
});
auth.onSignedOut((reason) => showSignedOut(farewells[reason]));
auth.onStorageFailed(() => say('message', 'This browser stores nothing: a reload will sign you out.'));
document.addEventListener('action-failed', ({ detail }) => report(detail));

if (await auth.isSignedIn()) {
  await showSignedIn().catch((error) => {
    // Without the service nobody can tell who is signed in; the tokens stay for when it is back.
    if (!isLatchkeyError(error, 'invalid_refresh_token', 'refresh_token_reused', 'signed_out')) report(error);
  });
} else {
  showSignedOut();
}

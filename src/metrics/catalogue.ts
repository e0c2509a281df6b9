import { limitNames } from '../limit-table.ts';

/** A label that takes one of these values, or one of a set that only the running service knows. */
type Label = readonly string[] | { of: string };

/** A metric as it is registered and documented. */
export type Definition = {
  type: 'counter' | 'gauge' | 'histogram';
  name: string;
  help: string;
  labels: Readonly<Record<string, Label>>;
  /** Upper bounds of a histogram, in seconds. */
  buckets?: readonly number[];
};

export const httpMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'other'] as const;
const purposes = ['registration', 'login', 'password_reset', 'email_change'] as const;
const proofs = ['password', 'code'] as const;
const route = { of: 'the template of a route, such as `/users/me/sessions/:id`, or `unmatched`' } as const;

/**
 * Every metric of the service. Labels hold neither an address nor an id: their values are written here, or are as few
 * as the routes, so that nothing that a caller sends makes a new time series.
 */
export const catalogue = {
  requests: {
    type: 'counter',
    name: 'latchkey_http_requests_total',
    help: 'Requests that were answered, or given up by the client before they were.',
    labels: { method: httpMethods, route, status: { of: 'the status of the answer, or `aborted`' } },
  },
  requestDuration: {
    type: 'histogram',
    name: 'latchkey_http_request_duration_seconds',
    help: 'Time from the head of a request to the end of its answer.',
    labels: { method: httpMethods, route },
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  },
  rateLimited: {
    type: 'counter',
    name: 'latchkey_rate_limited_total',
    help: 'Requests that were answered 429, by the limit that was used up; `code_mails` is the budget of one address.',
    labels: { limit: [...limitNames, 'code_mails'] },
  },
  passwordThrottled: {
    type: 'counter',
    name: 'latchkey_password_throttled_total',
    help: 'Passwords that could not be right because there were too many wrong ones before, by whose attempts were counted and by whether they wait or need a reset.',
    labels: { lane: ['public', 'device', 'session'], reason: ['throttled', 'suspended'] },
  },
  logins: {
    type: 'counter',
    name: 'latchkey_logins_total',
    help: 'Logins by what proved the user and what came of it. The outcome is for the operator: callers get one answer for every refusal.',
    labels: {
      method: proofs,
      outcome: [
        'succeeded',
        'wrong_password',
        'unknown_address',
        'inactive_account',
        'unreadable_hash',
        'throttled',
        'refused_proof',
      ],
    },
  },
  confirmations: {
    type: 'counter',
    name: 'latchkey_password_confirmations_total',
    help: 'Passwords that a user who is logged in gave again, by what for and what came of it.',
    labels: {
      act: ['reauthentication', 'password_change'],
      outcome: ['succeeded', 'wrong_password', 'unreadable_hash', 'throttled'],
    },
  },
  registrations: {
    type: 'counter',
    name: 'latchkey_registrations_total',
    help: 'Accounts that were created by their owners.',
    labels: {},
  },
  passwordChanges: {
    type: 'counter',
    name: 'latchkey_password_changes_total',
    help: 'New passwords of existing accounts, by what proved the owner.',
    labels: { proof: proofs },
  },
  refreshes: {
    type: 'counter',
    name: 'latchkey_refreshes_total',
    help: 'Refresh tokens by what came of them: `repeated` got the same successor again within the grace, `reused` ended its session.',
    labels: { outcome: ['rotated', 'repeated', 'reused', 'refused'] },
  },
  sessionCacheReads: {
    type: 'counter',
    name: 'latchkey_session_cache_reads_total',
    help: 'Looks of the guard into the session cache; a miss asks the database.',
    labels: { outcome: ['hit', 'miss'] },
  },
  codesSent: {
    type: 'counter',
    name: 'latchkey_codes_sent_total',
    help: 'Codes that were asked for, by what was put into the outbox: the code, a notice to the owner, or nothing that is mailed.',
    labels: { purpose: purposes, content: ['code', 'notice', 'nothing'] },
  },
  codesFailed: {
    type: 'counter',
    name: 'latchkey_codes_failed_total',
    help: 'Codes that could not be sent because a component was away.',
    labels: { purpose: purposes },
  },
  codesChecked: {
    type: 'counter',
    name: 'latchkey_codes_checked_total',
    help: 'Codes that were presented.',
    labels: { purpose: purposes, outcome: ['accepted', 'refused'] },
  },
  mailDeliveries: {
    type: 'counter',
    name: 'latchkey_mail_deliveries_total',
    help: 'What became of mails: a postponed one is counted at every try, the others once.',
    labels: { outcome: ['delivered', 'postponed', 'given_up', 'expired'] },
  },
  outboxMessages: {
    type: 'gauge',
    name: 'latchkey_outbox_messages',
    help: 'Mails that wait, of all instances together; 10,000 stands for as many or more. Absent while the database is away.',
    labels: {},
  },
  outboxOldestAge: {
    type: 'gauge',
    name: 'latchkey_outbox_oldest_age_seconds',
    help: 'Age of the mail that has waited longest, 0 when none waits. Absent while the database is away.',
    labels: {},
  },
  hashWaiting: {
    type: 'gauge',
    name: 'latchkey_hash_queue_waiting',
    help: 'Passwords that wait for a thread.',
    labels: {},
  },
  hashCapacity: {
    type: 'gauge',
    name: 'latchkey_hash_queue_capacity',
    help: 'Passwords that may wait for a thread (`HASH_QUEUE_MAX`).',
    labels: {},
  },
  hashWait: {
    type: 'histogram',
    name: 'latchkey_hash_wait_seconds',
    help: 'Time that a password waited for a thread.',
    labels: {},
    buckets: [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  hashDuration: {
    type: 'histogram',
    name: 'latchkey_hash_duration_seconds',
    help: 'Time that a thread took to hash or check a password.',
    labels: { operation: ['hash', 'verify'] },
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4],
  },
  hashRefused: {
    type: 'counter',
    name: 'latchkey_hash_refused_total',
    help: 'Passwords that were not hashed: the queue was full, the wait was too long, or the client went away before its turn.',
    labels: { reason: ['queue_full', 'waited_too_long', 'client_gone'] },
  },
  componentUp: {
    type: 'gauge',
    name: 'latchkey_component_up',
    help: '1 while the component answers this instance, 0 while it does not. `ephemeral` is Redis, or this process’s memory without it.',
    labels: { component: ['database', 'ephemeral', 'mail'] },
  },
  poolConnections: {
    type: 'gauge',
    name: 'latchkey_database_pool_connections',
    help: 'Connections of this instance to PostgreSQL. Absent on SQLite.',
    labels: { state: ['used', 'idle'] },
  },
  poolCapacity: {
    type: 'gauge',
    name: 'latchkey_database_pool_capacity',
    help: 'Connections that this instance may have (`DATABASE_POOL_MAX`). Absent on SQLite.',
    labels: {},
  },
  poolWaiting: {
    type: 'gauge',
    name: 'latchkey_database_pool_waiting',
    help: 'Requests that wait for a connection to PostgreSQL. Absent on SQLite.',
    labels: {},
  },
  buildInfo: {
    type: 'gauge',
    name: 'latchkey_build_info',
    help: 'Always 1; the labels say what runs.',
    labels: {
      version: { of: 'the version of Latchkey' },
      database: ['sqlite', 'postgres'],
      ephemeral: ['memory', 'redis'],
    },
  },
} as const satisfies Record<string, Definition>;

type Catalogue = typeof catalogue;
type Key = keyof Catalogue;

/** The names of the metrics of a kind, as the code calls them. */
export type KeyOf<Type extends Definition['type']> = { [K in Key]: Catalogue[K]['type'] extends Type ? K : never }[Key];

/** The labels of a metric with the values that each may take. */
export type LabelsOf<K extends Key> = {
  readonly [L in keyof Catalogue[K]['labels']]: Catalogue[K]['labels'][L] extends readonly (infer Value)[]
    ? Value
    : string;
};

/** The values of one label. */
export type LabelValue<K extends Key, L extends keyof Catalogue[K]['labels']> = LabelsOf<K>[L];

/** Every combination of the values of closed labels; none where a label is open, whose values come with use. */
export function combinations(labels: Definition['labels']): Record<string, string>[] {
  let made: Record<string, string>[] = [{}];
  for (const [name, values] of Object.entries(labels)) {
    if (!isClosed(values)) return [];
    made = made.flatMap((known) => values.map((value) => ({ ...known, [name]: value })));
  }
  return made;
}

/** Whether the values of a label are all written down. */
export function isClosed(label: Label): label is readonly string[] {
  return Array.isArray(label);
}

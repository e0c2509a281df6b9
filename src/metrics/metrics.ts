import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import {
  catalogue,
  combinations,
  type Definition,
  httpMethods,
  type KeyOf,
  type LabelsOf,
  type LabelValue,
} from './catalogue.ts';

/** What the service counts. Each function belongs behind the act: what failed or was taken back is not counted. */
export type Metrics = {
  countRequest(request: AnsweredRequest): void;
  countRateLimited(limit: LabelValue<'rateLimited', 'limit'>): void;
  countThrottled(
    lane: LabelValue<'passwordThrottled', 'lane'>,
    reason: LabelValue<'passwordThrottled', 'reason'>,
  ): void;
  countLogin(method: LabelValue<'logins', 'method'>, outcome: LabelValue<'logins', 'outcome'>): void;
  countConfirmation(act: LabelValue<'confirmations', 'act'>, outcome: LabelValue<'confirmations', 'outcome'>): void;
  countRegistration(): void;
  countPasswordChange(proof: LabelValue<'passwordChanges', 'proof'>): void;
  countRefresh(outcome: LabelValue<'refreshes', 'outcome'>): void;
  countSessionCacheRead(outcome: LabelValue<'sessionCacheReads', 'outcome'>): void;
  countCodeSent(purpose: LabelValue<'codesSent', 'purpose'>, content: LabelValue<'codesSent', 'content'>): void;
  countCodeFailed(purpose: LabelValue<'codesFailed', 'purpose'>): void;
  countCodeChecked(
    purpose: LabelValue<'codesChecked', 'purpose'>,
    outcome: LabelValue<'codesChecked', 'outcome'>,
  ): void;
  countDelivery(outcome: LabelValue<'mailDeliveries', 'outcome'>): void;
  countHash(hash: { operation: LabelValue<'hashDuration', 'operation'>; waitedMs: number; tookMs: number }): void;
  countHashRefused(reason: LabelValue<'hashRefused', 'reason'>): void;
  /** Writes everything down in Prometheus' text format, with the state of the components as it was found. */
  render(state: ComponentState): Promise<string>;
};

/** A request that is over. One that reached no route has no template, and one that Node refused no duration. */
type AnsweredRequest = {
  method: string;
  route: string | undefined;
  status: number | 'aborted';
  durationMs?: number;
};

/** What is looked at when somebody asks for the metrics. What is undefined is not known, or not there. */
export type ComponentState = {
  up: Record<LabelValue<'componentUp', 'component'>, boolean>;
  outbox: { messages: number; oldestAgeSeconds: number } | undefined;
  hashWaiting: number;
  pool: { used: number; idle: number; waiting: number } | undefined;
};

/** What is known from the start on. */
export type MetricsOptions = LabelsOf<'buildInfo'> & {
  hashCapacity: number;
  poolCapacity: number | undefined;
};

const knownMethods: ReadonlySet<string> = new Set(httpMethods);

/** Creates the metrics of one process, in a registry of their own. */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const { counters, gauges, histograms } = register(registry);
  const { hashCapacity, poolCapacity, ...build } = options;
  gauges.buildInfo.set(build, 1);
  gauges.hashCapacity.set(hashCapacity);
  if (poolCapacity !== undefined) gauges.poolCapacity.set(poolCapacity);
  else gauges.poolCapacity.remove();

  const count = <K extends KeyOf<'counter'>>(key: K, labels: LabelsOf<K>) => counters[key].inc({ ...labels });

  return {
    countRequest({ method, route = 'unmatched', status, durationMs }) {
      const labels = { method: knownMethods.has(method) ? method : 'other', route };
      counters.requests.inc({ ...labels, status: String(status) });
      if (durationMs !== undefined) histograms.requestDuration.observe(labels, durationMs / 1000);
    },
    countRateLimited: (limit) => count('rateLimited', { limit }),
    countThrottled: (lane, reason) => count('passwordThrottled', { lane, reason }),
    countLogin: (method, outcome) => count('logins', { method, outcome }),
    countConfirmation: (act, outcome) => count('confirmations', { act, outcome }),
    countRegistration: () => count('registrations', {}),
    countPasswordChange: (proof) => count('passwordChanges', { proof }),
    countRefresh: (outcome) => count('refreshes', { outcome }),
    countSessionCacheRead: (outcome) => count('sessionCacheReads', { outcome }),
    countCodeSent: (purpose, content) => count('codesSent', { purpose, content }),
    countCodeFailed: (purpose) => count('codesFailed', { purpose }),
    countCodeChecked: (purpose, outcome) => count('codesChecked', { purpose, outcome }),
    countDelivery: (outcome) => count('mailDeliveries', { outcome }),
    countHash({ operation, waitedMs, tookMs }) {
      histograms.hashWait.observe(waitedMs / 1000);
      histograms.hashDuration.observe({ operation }, tookMs / 1000);
    },
    countHashRefused: (reason) => count('hashRefused', { reason }),
    render(state) {
      noteState(gauges, state);
      return registry.metrics();
    },
  };
}

type Registered = ReturnType<typeof register>;

/** Registers the whole catalogue. Counters of closed labels begin at 0, so that the first event of each is an increase. */
function register(registry: Registry) {
  const registers = [registry];
  const create = <Type extends Definition['type'], M>(type: Type, make: (definition: Definition) => M) => {
    const entries = Object.entries(catalogue as Record<string, Definition>).filter(([, entry]) => entry.type === type);
    return Object.fromEntries(entries.map(([key, entry]) => [key, make(entry)])) as Record<KeyOf<Type>, M>;
  };
  return {
    counters: create('counter', ({ name, help, labels }) => {
      const counter = new Counter({ name, help, labelNames: Object.keys(labels), registers });
      for (const values of combinations(labels)) counter.inc(values, 0);
      return counter;
    }),
    gauges: create('gauge', ({ name, help, labels }) => {
      return new Gauge({ name, help, labelNames: Object.keys(labels), registers });
    }),
    histograms: create('histogram', ({ name, help, labels, buckets = [] }) => {
      return new Histogram({ name, help, labelNames: Object.keys(labels), registers, buckets: [...buckets] });
    }),
  };
}

/** A gauge that is not known is left out: its last value would be taken for the present one. */
function noteState(gauges: Registered['gauges'], { up, outbox, hashWaiting, pool }: ComponentState): void {
  for (const [component, isUp] of Object.entries(up)) gauges.componentUp.set({ component }, isUp ? 1 : 0);
  gauges.hashWaiting.set(hashWaiting);
  setOrRemove(gauges.outboxMessages, {}, outbox?.messages);
  setOrRemove(gauges.outboxOldestAge, {}, outbox?.oldestAgeSeconds);
  setOrRemove(gauges.poolConnections, { state: 'used' }, pool?.used);
  setOrRemove(gauges.poolConnections, { state: 'idle' }, pool?.idle);
  setOrRemove(gauges.poolWaiting, {}, pool?.waiting);
}

function setOrRemove(gauge: Gauge, labels: Record<string, string>, value: number | undefined): void {
  if (value === undefined) gauge.remove(labels);
  else gauge.set(labels, value);
}

/** Adds what is true of any Node.js process: memory, processor, garbage collection, the lag of the event loop. */
export function createProcessMetrics(): { render(): Promise<string> } {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return { render: () => registry.metrics() };
}

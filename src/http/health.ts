import { type Static, Type } from 'typebox';
import { answerWithin } from '../deadline.ts';
import type { Deps } from '../deps.ts';
import type { ApiInstance } from './api.ts';
import { operation } from './schemas.ts';

const probeTimeoutMs = 2_000;

const componentState = Type.Union([Type.Literal('up'), Type.Literal('down')], { description: '`up` or `down`.' });

const liveSchema = Type.Object(
  { status: Type.Literal('ok') },
  { additionalProperties: false, examples: [{ status: 'ok' }] },
);

const readySchema = Type.Object(
  {
    status: Type.Union([Type.Literal('ready'), Type.Literal('degraded'), Type.Literal('unavailable')], {
      description: '`degraded` serves logins and lacks something else, such as codes.',
    }),
    components: Type.Object({ database: componentState, ephemeral: componentState }, { additionalProperties: false }),
  },
  {
    additionalProperties: false,
    examples: [{ status: 'ready', components: { database: 'up', ephemeral: 'up' } }],
  },
);

/** Registers the probes of an orchestrator. */
export function registerHealth(app: ApiInstance, deps: Deps): void {
  app.get(
    '/health/live',
    {
      schema: operation({
        operationId: 'getLiveness',
        tag: 'Service',
        summary: 'Is the process alive?',
        description: 'Answers as long as the process can answer anything; looks at no component.',
        response: { 200: liveSchema },
      }),
    },
    async () => ({ status: 'ok' }) as const,
  );

  app.get(
    '/health/ready',
    {
      schema: operation({
        operationId: 'getReadiness',
        tag: 'Service',
        summary: 'Can it serve logins?',
        description:
          'Names each component with its state. 503 when logins cannot be served, and from the moment a stop begins.',
        response: { 200: readySchema, 503: { ...readySchema, description: 'Logins cannot be served.' } },
      }),
    },
    async (_request, reply) => {
      const report = await checkReadiness(deps);
      return reply
        .status(report.status === 'unavailable' ? 503 : 200)
        .header('cache-control', 'no-store')
        .send(report);
    },
  );
}

async function checkReadiness({ database, ephemeral, isStopping }: Deps): Promise<Static<typeof readySchema>> {
  const [databaseState, ephemeralState] = await Promise.all([probe(database.ping()), probe(ephemeral.ping())]);
  const components = { database: databaseState, ephemeral: ephemeralState };
  // Red from the first moment of a stop, so that a balancer sends nothing more while the rest is finished.
  if (databaseState === 'down' || isStopping()) return { status: 'unavailable', components };
  return { status: ephemeralState === 'down' ? 'degraded' : 'ready', components };
}

async function probe(answer: Promise<void>): Promise<'up' | 'down'> {
  try {
    await answerWithin(probeTimeoutMs, answer);
    return 'up';
  } catch {
    return 'down';
  }
}

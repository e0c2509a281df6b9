import type { Static } from 'typebox';
import { answerWithin } from '../deadline.ts';
import type { Deps } from '../deps.ts';
import { Type } from '../json-schema.ts';
import type { ApiInstance } from './api.ts';
import { operation } from './schemas.ts';

const probeTimeoutMs = 2_000;

const componentState = Type.Union([Type.Literal('up'), Type.Literal('down')], { description: '`up` or `down`.' });
const mailState = Type.Union([Type.Literal('up'), Type.Literal('down')], {
  description:
    '`down` while the mail server takes no mail; what waits is kept and tried again. As the last try tells, which is some 30 seconds old at most; `up` until the first.',
});

const liveSchema = Type.Object(
  { status: Type.Literal('ok') },
  { additionalProperties: false, examples: [{ status: 'ok' }] },
);

const readySchema = Type.Object(
  {
    status: Type.Union([Type.Literal('ready'), Type.Literal('degraded'), Type.Literal('unavailable')], {
      description: '`degraded` serves logins and lacks something else, such as codes or the delivery of mail.',
    }),
    components: Type.Object(
      { database: componentState, ephemeral: componentState, mail: mailState },
      { additionalProperties: false },
    ),
  },
  {
    additionalProperties: false,
    examples: [{ status: 'ready', components: { database: 'up', ephemeral: 'up', mail: 'up' } }],
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

async function checkReadiness({ database, ephemeral, outbox, isStopping }: Deps): Promise<Static<typeof readySchema>> {
  const [databaseState, ephemeralState] = await Promise.all([probe(database.ping()), probe(ephemeral.ping())]);
  const components = { database: databaseState, ephemeral: ephemeralState, mail: outbox.serverState() };
  // Red from the first moment of a stop, so that a balancer sends nothing more while the rest is finished.
  if (databaseState === 'down' || isStopping()) return { status: 'unavailable', components };
  const isWhole = Object.values(components).every((state) => state === 'up');
  return { status: isWhole ? 'ready' : 'degraded', components };
}

async function probe(answer: Promise<void>): Promise<'up' | 'down'> {
  try {
    await answerWithin(probeTimeoutMs, answer);
    return 'up';
  } catch {
    return 'down';
  }
}

import type { Static } from 'typebox';
import { toRfc3339 } from '../clock.ts';
import { pageFields, pageSchema } from '../http/paging.ts';
import { schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { auditEventTypes } from './events.ts';
import type { RecordedEvent } from './flow.ts';

const exampleEvent = {
  id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b',
  type: 'user.disabled',
  occurred_at: '2026-01-01T12:00:00.000Z',
  actor_id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5c',
  user_id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5d',
  client_address: '203.0.113.7',
  user_agent: null,
  request_id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5e',
  details: { by: 'administrator', sessions_ended: 2 },
};

const textOrNull = (description: string) => Type.Union([Type.String(), Type.Null()], { description });

/** An audit event as the API shows one. */
export const auditEventSchema = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    type: Type.String({ description: 'What happened: one of the closed list of types.' }),
    occurred_at: Type.String({ format: 'date-time' }),
    actor_id: textOrNull('The user who acted; null where that was nobody known, or the operator.'),
    user_id: textOrNull('The user whom it is about. The id outlives the account.'),
    client_address: textOrNull('Where the actor was; null once the actor or the user is deleted.'),
    user_agent: textOrNull('The User-Agent header of the actor.'),
    request_id: textOrNull('Names the request in the log.'),
    details: Type.Unsafe<Record<string, unknown>>({
      type: 'object',
      additionalProperties: true,
      description: 'Facts of this type of event, without secrets and addresses.',
    }),
  },
  { $id: 'AuditEvent', additionalProperties: false, examples: [exampleEvent] },
);

export const auditEventListSchema = pageSchema(schemaRef(auditEventSchema), {
  description: 'Audit events, the newest first.',
  examples: [{ items: [exampleEvent], next_cursor: null }],
});

export const auditEventQuerySchema = Type.Object(
  {
    ...pageFields,
    user_id: Type.Optional(Type.String({ format: 'uuid', description: 'Whom the events are about.' })),
    type: Type.Optional(Type.Enum([...auditEventTypes], { description: 'What happened.' })),
    since: Type.Optional(
      Type.String({ format: 'date-time', description: 'From this time on (RFC 3339), the moment itself included.' }),
    ),
    until: Type.Optional(
      Type.String({ format: 'date-time', description: 'Before this time (RFC 3339), the moment itself not included.' }),
    ),
  },
  { additionalProperties: false },
);

/** Maps an event to its JSON form. */
export function toAuditEventResponse(event: RecordedEvent): Static<typeof auditEventSchema> {
  return {
    id: event.id,
    type: event.type,
    occurred_at: toRfc3339(event.occurredAtMs),
    actor_id: event.actorId,
    user_id: event.userId,
    client_address: event.clientAddress,
    user_agent: event.userAgent,
    request_id: event.requestId,
    details: event.details,
  };
}

import type { Static } from 'typebox';
import { toRfc3339 } from '../clock.ts';
import { Type } from '../json-schema.ts';
import type { Session } from './flow.ts';

/** A session in JSON, wherever it is shown: in the user's own list and in the export. */
export const sessionFields = {
  id: Type.String({ format: 'uuid' }),
  device: Type.Union([Type.String(), Type.Null()], {
    description: 'What the client said that it is, such as `Firefox on Linux`; null when it said nothing known.',
  }),
  user_agent: Type.Union([Type.String(), Type.Null()], { description: 'The User-Agent header of the login.' }),
  client_address: Type.String({ description: 'Where the login came from.' }),
  created_at: Type.String({ format: 'date-time', description: 'When the user logged in.' }),
  last_used_at: Type.String({ format: 'date-time', description: 'When the session was last refreshed.' }),
  authenticated_at: Type.String({ format: 'date-time', description: 'When the user last proved who they are.' }),
  expires_at: Type.String({ format: 'date-time', description: 'When it ends unless it is refreshed before.' }),
};

/** The fields alone, as the export shows a session. */
export const plainSessionSchema = Type.Object(sessionFields, { additionalProperties: false });

/** Maps a session to these fields. */
export function toSessionFields(session: Session): Static<typeof plainSessionSchema> {
  return {
    id: session.id,
    device: session.device,
    user_agent: session.userAgent,
    client_address: session.clientAddress,
    created_at: toRfc3339(session.createdAtMs),
    last_used_at: toRfc3339(session.lastUsedAtMs),
    authenticated_at: toRfc3339(session.authenticatedAtMs),
    expires_at: toRfc3339(session.expiresAtMs),
  };
}

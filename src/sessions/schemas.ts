import type { Static } from 'typebox';
import type { Account } from '../account/flow.ts';
import { exampleUser, toUserResponse, userSchema } from '../account/schemas.ts';
import { refreshTokenMaxLength } from '../crypto/refresh-token.ts';
import { pageSchema } from '../http/paging.ts';
import { schemaRef } from '../http/schemas.ts';
import { optionalBodyKeyword } from '../http/validation.ts';
import { Type } from '../json-schema.ts';
import type { IssuedTokens, Session } from './flow.ts';
import { sessionFields, toSessionFields } from './session-json.ts';

const tokenFields = {
  access_token: Type.String({
    description: 'A signed JWT in the profile of RFC 9068. Send it as `Authorization: Bearer <access_token>`.',
  }),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer({ description: 'Seconds until the access token expires.' }),
  refresh_token: Type.String({
    description: 'Works once, at `POST /auth/refresh`. Opaque: keep it where only your application can read it.',
  }),
  refresh_token_expires_in: Type.Integer({
    description: 'Seconds until the refresh token expires unless it is used before.',
  }),
};

const exampleTokens = {
  access_token: 'eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IjAxOTc4ZjZlIn0.eyJpc3MiOiJodHRwcyJ9.c2lnbmF0dXJl',
  token_type: 'Bearer',
  expires_in: 1800,
  refresh_token: 'v1.01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b.0.Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgcmVhbCB0b2tlbg',
  refresh_token_expires_in: 604800,
};

/** RFC 6749 section 5.1. */
export const tokenResponseSchema = Type.Object(tokenFields, {
  $id: 'TokenResponse',
  additionalProperties: false,
  description: 'Tokens, with the names of RFC 6749 section 5.1.',
  examples: [exampleTokens],
});

/** The answer to a login or registration: tokens and whose they are. */
export const loginResponseSchema = Type.Object(
  { ...tokenFields, user: schemaRef(userSchema) },
  {
    $id: 'LoginResponse',
    additionalProperties: false,
    description: 'Tokens, with the names of RFC 6749 section 5.1, and the user that they stand for.',
    examples: [{ ...exampleTokens, user: exampleUser }],
  },
);

const refreshTokenField = Type.String({
  minLength: 1,
  maxLength: refreshTokenMaxLength,
  description: 'The newest refresh token of the session.',
  examples: [exampleTokens.refresh_token],
});

export const refreshBodySchema = Type.Object(
  { refresh_token: refreshTokenField },
  { additionalProperties: false, examples: [{ refresh_token: exampleTokens.refresh_token }] },
);

export const logoutBodySchema = Type.Object(
  { refresh_token: refreshTokenField },
  {
    additionalProperties: false,
    [optionalBodyKeyword]: true,
    examples: [{ refresh_token: exampleTokens.refresh_token }],
  },
);

const exampleSession = {
  id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b',
  current: true,
  device: 'Firefox on Linux',
  user_agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0',
  client_address: '203.0.113.7',
  created_at: '2026-01-01T12:00:00.000Z',
  last_used_at: '2026-01-02T08:30:00.000Z',
  authenticated_at: '2026-01-01T12:00:00.000Z',
  expires_at: '2026-01-09T08:30:00.000Z',
};

/** A session as its user sees it. */
export const sessionSchema = Type.Object(
  {
    ...sessionFields,
    current: Type.Boolean({ description: 'True on the session that asks.' }),
  },
  { $id: 'Session', additionalProperties: false, examples: [exampleSession] },
);

export const sessionListSchema = pageSchema(schemaRef(sessionSchema), {
  description: 'Live sessions, the newest first.',
  examples: [{ items: [exampleSession], next_cursor: null }],
});

export const sessionIdParamsSchema = Type.Object(
  { id: Type.String({ format: 'uuid', description: 'The id of one of your sessions.' }) },
  { additionalProperties: false },
);

/** Maps a session to its JSON form. */
export function toSessionResponse(session: Session, currentSessionId: string): Static<typeof sessionSchema> {
  return { ...toSessionFields(session), current: session.id === currentSessionId };
}

/** Maps issued tokens to their JSON form. */
export function toTokenResponse(tokens: IssuedTokens): Static<typeof tokenResponseSchema> {
  return {
    access_token: tokens.accessToken,
    token_type: 'Bearer',
    expires_in: tokens.expiresInSeconds,
    refresh_token: tokens.refreshToken,
    refresh_token_expires_in: tokens.refreshTokenExpiresInSeconds,
  };
}

/** Maps the result of a login or registration to its JSON form. */
export function toLoginResponse(login: { tokens: IssuedTokens; account: Account }): Static<typeof loginResponseSchema> {
  return { ...toTokenResponse(login.tokens), user: toUserResponse(login.account) };
}

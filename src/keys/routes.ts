import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { operation } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';

// Verifiers look again when they meet an unknown key id, and a next key is shown long before it signs.
const maxAgeSeconds = 300;

const jwkSchema = Type.Object(
  {
    kty: Type.Literal('EC'),
    crv: Type.Literal('P-256'),
    x: Type.String(),
    y: Type.String(),
    kid: Type.String(),
    alg: Type.Literal('ES256'),
    use: Type.Literal('sig'),
  },
  { additionalProperties: false },
);

const jwksSchema = Type.Object(
  { keys: Type.Array(jwkSchema) },
  {
    additionalProperties: false,
    description: 'A JWK Set (RFC 7517 section 5).',
    examples: [
      {
        keys: [
          {
            kty: 'EC',
            crv: 'P-256',
            x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
            y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
            kid: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b',
            alg: 'ES256',
            use: 'sig',
          },
        ],
      },
    ],
  },
);

/** GET /.well-known/jwks.json. */
export function registerKeys(app: ApiInstance, deps: Deps): void {
  app.get(
    '/.well-known/jwks.json',
    {
      schema: operation({
        operationId: 'getJwks',
        tag: 'Service',
        summary: 'The public keys of access tokens',
        description:
          'The next, the active and the retired but still valid keys. Verify access tokens with these: `alg` ES256, `typ` at+jwt, `iss` and `aud` as configured, `kid` by exact look-up.',
        response: { 200: jwksSchema },
      }),
    },
    async (_request, reply) => {
      await deps.signingKeys.freshen();
      reply.header('cache-control', `public, max-age=${maxAgeSeconds}`);
      return { keys: [...deps.signingKeys.publicJwks()] };
    },
  );
}

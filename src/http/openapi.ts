import swagger from '@fastify/swagger';
import type { OpenAPIV3_1 } from 'openapi-types';
import { version } from '../version.ts';
import type { ApiInstance } from './api.ts';
import { optionalBodyKeyword } from './validation.ts';

const description = `Self-hosted authentication: accounts proved by e-mailed codes, short-lived signed access tokens, rotating refresh tokens.

**Try it here.** Call \`POST /auth/send-code\` with purpose \`registration\`, read the code in [the mailbox](/dev/mailbox) (development only), prove it with \`POST /auth/verify-code\`, and create the account with \`POST /auth/register\`. Then press **Authorize**, paste the \`access_token\`, and call \`GET /users/me\`.

Bodies are JSON in UTF-8, at most 32 KiB. Times are RFC 3339 in UTC, durations are whole seconds. Every error is a problem document (RFC 9457) whose \`code\` is listed at [/docs/errors](/docs/errors).`;

// Declared only where there is something that takes it: the dialog of /docs asks for each.
const metricsTokenScheme = {
  metrics_token: {
    type: 'http',
    scheme: 'bearer',
    description: '`METRICS_TOKEN` of the configuration, for `GET /metrics` alone.',
  },
} as const;

/** Makes the OpenAPI document from the schemas of the routes that are registered after it. */
export async function registerOpenApi(app: ApiInstance, hasMetrics: boolean): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Latchkey', version, description, license: { name: 'MIT', identifier: 'MIT' } },
      // Relative, so that it is right under every name by which the service is reached.
      servers: [{ url: '/' }],
      tags: [
        { name: 'Verification', description: 'Proving that an e-mail address is yours.' },
        { name: 'Authentication', description: 'Creating an account, logging in, staying logged in, logging out.' },
        { name: 'Account', description: 'Your own account. Every operation needs an access token.' },
        {
          name: 'Administration',
          description:
            'Users, roles and audit events. Every operation needs a permission, which the roles of the user of the access token give; a change of them is effective on the next request.',
        },
        { name: 'Service', description: 'What other services and operators read.' },
      ],
      components: {
        securitySchemes: {
          access_token: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description: 'The `access_token` of a token response (RFC 9068), sent as RFC 6750 says.',
          },
          ...(hasMetrics ? metricsTokenScheme : {}),
        },
      },
    },
    transformObject: (source) => {
      if (!('openapiObject' in source)) throw new Error('an OpenAPI document was expected');
      // The document is declared as 3.1 above; the plugin's type allows every version.
      return markOptionalBodies(source.openapiObject as Partial<OpenAPIV3_1.Document>);
    },
    refResolver: { buildLocalReference: (json, _baseUri, _fragment, i) => String(json.$id ?? `schema-${i}`) },
  });
}

/** Says of bodies that may be left out that they are not required, instead of our own keyword. */
function markOptionalBodies(document: Partial<OpenAPIV3_1.Document>): Partial<OpenAPIV3_1.Document> {
  for (const path of Object.values(document.paths ?? {})) {
    const requestBody = path?.post?.requestBody;
    if (requestBody === undefined || !('content' in requestBody)) continue;
    const schema = requestBody.content['application/json']?.schema as Record<string, unknown> | undefined;
    if (schema === undefined || !(optionalBodyKeyword in schema)) continue;
    delete schema[optionalBodyKeyword];
    requestBody.required = false;
  }
  return document;
}

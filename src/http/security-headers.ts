import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import helmet from 'helmet';
import type { ApiInstance } from './api.ts';

/**
 * Sets the same security headers on every reply. Helmet decides them once, at the start: asked for every reply anew it
 * would spell out the same dozen headers each time, which cost a tenth of GET /users/me.
 */
export function registerSecurityHeaders(app: ApiInstance, { isHttps }: { isHttps: boolean }): void {
  const headers = decideHeaders(isHttps);
  // Set first, so that a page can put a policy of its own in their place.
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers);
    done();
  });
}

function decideHeaders(isHttps: boolean): Readonly<Record<string, string>> {
  const request = new IncomingMessage(new Socket());
  const response = new ServerResponse(request);
  const decide = helmet({
    // The API answers with JSON; the few pages set a policy of their own.
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    strictTransportSecurity: isHttps ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    frameguard: { action: 'deny' },
    referrerPolicy: { policy: 'no-referrer' },
    crossOriginResourcePolicy: { policy: 'same-origin' },
  });
  decide(request, response, () => {});
  return Object.fromEntries(Object.entries(response.getHeaders()).map(([name, value]) => [name, String(value)]));
}

import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { operation } from '../http/schemas.ts';
import { sendCode, verifyCode } from './flow.ts';
import {
  sendCodeBodySchema,
  sendCodeResponseSchema,
  toSendCodeResponse,
  verifyCodeBodySchema,
  verifyCodeResponseSchema,
} from './schemas.ts';

/** POST /auth/send-code and POST /auth/verify-code. */
export function registerVerification(app: ApiInstance, deps: Deps, { limit }: RouteTools): void {
  app.post(
    '/auth/send-code',
    {
      onRequest: limit('send-code'),
      schema: operation({
        operationId: 'sendCode',
        tag: 'Verification',
        summary: 'Send a code to an address',
        description:
          'Mails six characters that prove the address for one purpose. The answer is the same whatever the address: for `registration` of an address that has an account the owner is told so by mail; for `login` and `password_reset` of one that has none, nothing is sent. A new code ends the old one. At most one a minute, five an hour and ten a day for an address.',
        body: sendCodeBodySchema,
        response: { 202: sendCodeResponseSchema },
        errors: ['too_many_requests'],
      }),
    },
    async (request, reply) => {
      const sent = await sendCode(deps, request.body, requestContext(request, reply));
      return reply.status(202).header('cache-control', 'no-store').send(toSendCodeResponse(sent));
    },
  );

  app.post(
    '/auth/verify-code',
    {
      onRequest: limit('verify-code'),
      schema: operation({
        operationId: 'verifyCode',
        tag: 'Verification',
        summary: 'Prove an address with its code',
        description:
          'Exchanges a right code for a verification token. Five tries a code, counted before comparing; wrong, expired, used up and never sent are answered alike.',
        body: verifyCodeBodySchema,
        response: { 200: verifyCodeResponseSchema },
        errors: ['invalid_code', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const { token, expiresInSeconds } = await verifyCode(deps, request.body, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return { verification_token: token, expires_in: expiresInSeconds };
    },
  );
}

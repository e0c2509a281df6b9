import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { sendCodeResponseSchema, toSendCodeResponse } from '../verification/schemas.ts';
import { changeEmail, requestEmailChange } from './email-change.ts';
import { exportAccount } from './export.ts';
import { deleteAccount, getAccount, updateAccount } from './flow.ts';
import {
  changeEmailBodySchema,
  exportSchema,
  requestEmailChangeBodySchema,
  toExportResponse,
  toUserResponse,
  updateBodySchema,
  userSchema,
} from './schemas.ts';

/** GET, PATCH and DELETE /users/me; POST and PUT /users/me/email; GET /users/me/export. */
export function registerAccount(app: ApiInstance, deps: Deps, tools: RouteTools): void {
  registerProfile(app, deps, tools);
  registerDeletionAndExport(app, deps, tools);
  registerEmailChange(app, deps, tools);
}

function registerProfile(app: ApiInstance, deps: Deps, { guard }: RouteTools): void {
  app.get(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'getMe',
        tag: 'Account',
        summary: 'Read your account',
        description: 'The account that the access token stands for, as it is now.',
        response: { 200: schemaRef(userSchema) },
        secured: true,
      }),
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return toUserResponse(await getAccount(deps.db, principalOf(request).userId));
    },
  );

  app.patch(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'updateMe',
        tag: 'Account',
        summary: 'Change your profile',
        description:
          'Fields that are left out stay as they are; `null` clears `name` and `locale`; `metadata` is replaced as a whole. Address, status, roles and password have operations of their own.',
        body: updateBodySchema,
        response: { 200: schemaRef(userSchema) },
        secured: true,
      }),
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return toUserResponse(
        await updateAccount(deps, principalOf(request), request.body, requestContext(request, reply)),
      );
    },
  );
}

function registerDeletionAndExport(app: ApiInstance, deps: Deps, { guard, limit }: RouteTools): void {
  app.delete(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'deleteMe',
        tag: 'Account',
        summary: 'Delete your account',
        description:
          'Removes the account with its sessions, roles, codes and waiting mail. It cannot be undone, and a later account at the same address is a new one. The last active administrator stays. Needs an authentication within the last five minutes.',
        response: { 204: emptyResponse('The account is gone.') },
        errors: ['insufficient_user_authentication', 'last_administrator'],
        secured: true,
      }),
    },
    async (request, reply) => {
      await deleteAccount(deps, principalOf(request), requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );

  app.get(
    '/users/me/export',
    {
      onRequest: [limit('password'), guard],
      schema: operation({
        operationId: 'exportMe',
        tag: 'Account',
        summary: 'Export everything held about you',
        description:
          'One JSON document with the account, its sessions, known devices and audit events. Needs an authentication within the last five minutes.',
        response: { 200: exportSchema },
        errors: ['insufficient_user_authentication', 'too_many_requests'],
        secured: true,
      }),
    },
    async (request, reply) => {
      const data = await exportAccount(deps, principalOf(request), requestContext(request, reply));
      reply.header('cache-control', 'no-store').header('content-disposition', 'attachment; filename="account.json"');
      return toExportResponse(data);
    },
  );
}

function registerEmailChange(app: ApiInstance, deps: Deps, { guard, limit }: RouteTools): void {
  app.post(
    '/users/me/email',
    {
      onRequest: [limit('send-code'), guard],
      schema: operation({
        operationId: 'requestEmailChange',
        tag: 'Account',
        summary: 'Begin to change your address',
        description:
          'Sends a code for `email_change` to the new address. Whether somebody else has it is not revealed; its owner is told by mail. Prove it with `POST /auth/verify-code`, then call `PUT /users/me/email`. Needs an authentication within the last five minutes.',
        body: requestEmailChangeBodySchema,
        response: { 202: sendCodeResponseSchema },
        errors: ['insufficient_user_authentication', 'too_many_requests'],
        secured: true,
      }),
    },
    async (request, reply) => {
      const sent = await requestEmailChange(deps, principalOf(request), request.body, requestContext(request, reply));
      return reply.status(202).header('cache-control', 'no-store').send(toSendCodeResponse(sent));
    },
  );

  app.put(
    '/users/me/email',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'changeEmail',
        tag: 'Account',
        summary: 'Complete the change of your address',
        description:
          'Moves the account to an address proved for `email_change` by the same user. The old address is told by mail. A password reset or change in between cancels it.',
        body: changeEmailBodySchema,
        response: { 200: schemaRef(userSchema) },
        errors: ['invalid_verification_token', 'account_exists'],
        secured: true,
      }),
    },
    async (request, reply) => {
      const token = request.body.verification_token;
      const account = await changeEmail(deps, principalOf(request), token, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toUserResponse(account);
    },
  );
}

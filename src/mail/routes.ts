import type { FastifyRequest } from 'fastify';
import { toRfc3339 } from '../clock.ts';
import { isLoopback } from '../config.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { escapeHtml } from '../escape-html.ts';
import type { ApiInstance } from '../http/api.ts';
import { htmlPage } from '../http/page.ts';
import { Type } from '../json-schema.ts';
import type { Mailbox, MailboxItem } from './mailbox.ts';

const refreshSeconds = 5;

const mailboxSchema = Type.Object({
  items: Type.Array(
    Type.Object({
      to: Type.String(),
      subject: Type.String(),
      text: Type.String(),
      html: Type.String(),
      sent_at: Type.String({ format: 'date-time' }),
    }),
  ),
});

/** GET /dev/mailbox: the newest mails first, as a page for people and JSON for programs. */
export function registerMailbox(app: ApiInstance, deps: Deps, mailbox: Mailbox): void {
  const options = { schema: { hide: true, response: { 200: mailboxSchema } }, onRequest: requireLoopbackHost };
  app.get('/dev/mailbox', options, async (request, reply) => {
    // Whoever looks right after asking for a code should find it.
    await deps.outbox.deliverDue();
    reply.header('cache-control', 'no-store').header('vary', 'accept');
    if (!prefersHtml(request.headers.accept)) {
      return {
        items: mailbox.list().map(({ to, subject, text, html, sentAtMs }) => {
          return { to, subject, text, html, sent_at: toRfc3339(sentAtMs) };
        }),
      };
    }
    const page = renderMailbox(mailbox.list());
    return reply
      .header('content-security-policy', page.contentSecurityPolicy)
      .type('text/html; charset=utf-8')
      .serializer((payload: unknown) => payload as string)
      .send(page.html as never);
  });
}

/**
 * Hides the mailbox from every page but our own: one that has its name resolved to this machine (DNS rebinding)
 * makes the browser ask here, under that page's name.
 */
async function requireLoopbackHost(request: FastifyRequest): Promise<void> {
  const origin = `http://${request.headers.host ?? ''}`;
  const isOurs = URL.canParse(origin) && isLoopback(new URL(origin).hostname);
  if (!isOurs) throw new AppError('not_found');
}

/** Browsers name text/html; programs ask for JSON, or for anything. */
function prefersHtml(accept: string | undefined): boolean {
  return accept?.includes('text/html') ?? false;
}

function renderMailbox(items: readonly MailboxItem[]): { html: string; contentSecurityPolicy: string } {
  const mails = items.map(renderMail).join('\n');
  const empty = '<article><p>No mail yet. Ask for a code with <code>POST /auth/send-code</code>.</p></article>';
  return htmlPage({
    title: 'Latchkey: development mailbox',
    refreshSeconds,
    body: `<h1>Development mailbox</h1><p class="soft">Mail is not sent anywhere in development; it stays here, newest first, until the process ends. This page reloads itself. <a href="/docs">API documentation</a></p>${items.length === 0 ? empty : mails}`,
  });
}

function renderMail({ to, subject, text, sentAtMs }: MailboxItem): string {
  const sentAt = toRfc3339(sentAtMs);
  return `<article><div class="row"><h2>${escapeHtml(subject)}</h2><time datetime="${sentAt}">${sentAt}</time></div><p class="soft">to ${escapeHtml(to)}</p><pre>${escapeHtml(text)}</pre></article>`;
}

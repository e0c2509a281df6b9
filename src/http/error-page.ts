import { errorCatalogue } from '../errors.ts';
import { escapeHtml } from '../escape-html.ts';
import type { ApiInstance } from './api.ts';
import { htmlPage } from './page.ts';

/** Serves the page that the `type` of every problem document points at. */
export function registerErrorPage(app: ApiInstance): void {
  const page = renderErrorPage();
  app.get('/docs/errors', { schema: { hide: true } }, async (_request, reply) => {
    reply.header('content-security-policy', page.contentSecurityPolicy).type('text/html; charset=utf-8');
    return page.html;
  });
}

function renderErrorPage(): { html: string; contentSecurityPolicy: string } {
  const sections = Object.entries(errorCatalogue).map(
    ([code, { status, title, meaning, remedy }]) =>
      `<section id="${code}"><h2><code>${code}</code> <small>${status}</small></h2><p><strong>${title}.</strong> ${withCode(meaning)}</p><p>${withCode(remedy)}</p></section>`,
  );
  return htmlPage({
    title: 'Latchkey: errors',
    body: `<h1>Errors</h1><p>Every error is a problem document (RFC 9457). Branch on <code>code</code>: it never changes.</p>${sections.join('\n')}`,
  });
}

function withCode(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>');
}

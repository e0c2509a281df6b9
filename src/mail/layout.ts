import { escapeHtml } from '../escape-html.ts';

/** What a message says, before it is laid out. Every field is plain text. */
export type MessageContent = {
  subject: string;
  /** Paragraphs above the code. */
  opening: readonly string[];
  /** Shown large and on a line of its own. */
  code?: string;
  /** Paragraphs below the code. */
  closing: readonly string[];
};

/** A message ready to send. */
export type RenderedMessage = { subject: string; text: string; html: string };

const textStyle = 'margin:0 0 16px;font:16px/1.5 system-ui,sans-serif;color:#1c1e21';
const codeStyle = 'margin:0 0 16px;font:700 32px/1.2 ui-monospace,monospace;letter-spacing:4px;color:#1c1e21';
const footerStyle = 'margin:24px 0 0;font:13px/1.5 system-ui,sans-serif;color:#65676b';

/** Lays a message out as text and as HTML. Everything is escaped, and the only link is the public URL. */
export function renderMessage(content: MessageContent, footer: string, locale: string): RenderedMessage {
  const { subject, opening, code, closing } = content;
  const text = [...opening, ...(code === undefined ? [] : [`    ${code}`]), ...closing, `-- \n${footer}`].join('\n\n');
  const paragraph = (line: string) => `<p style="${textStyle}">${escapeHtml(line)}</p>`;
  const html = [
    `<!doctype html><html lang="${escapeHtml(locale)}"><head><meta charset="utf-8"><title>${escapeHtml(subject)}</title></head>`,
    '<body style="margin:0;padding:32px 16px;background:#f5f6f8"><div style="max-width:480px;margin:0 auto;padding:32px;background:#fff;border-radius:8px">',
    ...opening.map(paragraph),
    ...(code === undefined ? [] : [`<p style="${codeStyle}">${escapeHtml(code)}</p>`]),
    ...closing.map(paragraph),
    `<p style="${footerStyle}">${escapeHtml(footer)}</p>`,
    '</div></body></html>',
  ].join('\n');
  return { subject, text: `${text}\n`, html };
}

import { createHash } from 'node:crypto';

const style = `
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #65676b; --paper: #f5f6f8; --card: #fff; --line: #dcdfe4; --accent: #2456c7 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9da3ab; --paper: #14161a; --card: #1e2126; --line: #33383f; --accent: #8ab0ff } }
* { box-sizing: border-box }
body { margin: 0; padding: 32px 16px; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 760px; margin: 0 auto }
h1 { font-size: 24px; margin: 0 0 8px }
h2 { font-size: 17px; margin: 0 0 8px }
small, time, .soft { color: var(--soft); font-weight: 400; font-size: 14px }
section, article { margin: 16px 0; padding: 16px 20px; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
section:target { border-color: var(--accent) }
p { margin: 0 0 8px } p:last-child { margin: 0 }
code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { margin: 12px 0 0; white-space: pre-wrap; overflow-wrap: anywhere }
a { color: var(--accent) }
.row { display: flex; justify-content: space-between; gap: 16px; flex-wrap: wrap }`;

// The style is allowed by its hash and nothing else is, so that text in a page can do nothing.
const styleHash = createHash('sha256').update(style).digest('base64');
const contentSecurityPolicy = `default-src 'none'; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** A small page with our style and the policy under which to serve it. The body must be escaped already. */
export function htmlPage(options: { title: string; body: string; refreshSeconds?: number }) {
  const refresh =
    options.refreshSeconds === undefined ? '' : `<meta http-equiv="refresh" content="${options.refreshSeconds}">`;
  const html = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">${refresh}<title>${options.title}</title><style>${style}</style></head><body><main>${options.body}</main></body></html>`;
  return { html, contentSecurityPolicy };
}

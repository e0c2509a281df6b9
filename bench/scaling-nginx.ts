import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runNginx } from '../test/nginx.ts';
import { findFreePort } from '../test/ports.ts';

/** An nginx that gives each request to the instance with the fewest under way. */
export type BalancingNginx = { origin: string; pid: number; stop(): Promise<void> };

/**
 * Starts nginx before some instances, with the connections and headers of deploy/nginx/latchkey.conf and without TLS: a
 * client that keeps its connection pays for TLS once, and a bench that opens few would not show what it costs.
 */
export async function startBalancingNginx(ports: readonly number[]): Promise<BalancingNginx> {
  const port = await findFreePort();
  const site = `upstream latchkey {
  least_conn;
  ${ports.map((upstream) => `server 127.0.0.1:${upstream};`).join('\n  ')}
  keepalive 64;
  keepalive_requests 900;
}
server {
  listen 127.0.0.1:${port};
  keepalive_requests 1000000;
  location / {
    proxy_pass http://latchkey;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_next_upstream off;
  }
}
`;
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-nginx-'));
  const { pid, stop } = await runNginx(folder, { site, port, address: '127.0.0.1' });
  return { origin: `http://127.0.0.1:${port}`, pid, stop };
}

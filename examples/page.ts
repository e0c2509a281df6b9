import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/** Serves the page, the built client and where the service is. The files are read once, so no path can lead elsewhere. */
export async function registerPage(
  app: FastifyInstance,
  { issuer, clientFolder }: { issuer: string; clientFolder: string },
): Promise<void> {
  const files = [
    ...readFolder(join(import.meta.dirname, 'page'), ''),
    ...readFolder(clientFolder, 'client/').filter(({ name }) => name.endsWith('.js')),
  ];
  for (const { name, text } of files) {
    const path = name === 'index.html' ? '/' : `/${name}`;
    app.get(path, async (_request, reply) => reply.type(types[extname(name)] ?? 'text/plain').send(text));
  }
  app.get('/settings.json', async () => ({ service: issuer }));
}

function readFolder(folder: string, prefix: string): { name: string; text: string }[] {
  return readdirSync(folder).map((name) => ({ name: prefix + name, text: readFileSync(join(folder, name), 'utf8') }));
}

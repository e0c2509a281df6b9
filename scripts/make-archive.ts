import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import packageJson from '../package.json' with { type: 'json' };

/**
 * `npm run archive -- <folder>` makes the archive of a release: what `files` of package.json names, with the lock file,
 * which npm pack would leave out, so that `npm ci` installs exactly what was tested. The same files give the same bytes.
 */
const root = join(import.meta.dirname, '..');
const { positionals } = parseArgs({ allowPositionals: true });
const folder = resolve(positionals[0] ?? '.');
const name = `latchkey-${packageJson.version}`;

const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
  cwd: root,
  encoding: 'utf8',
});
const packed: { files: { path: string }[] }[] = Object.values(JSON.parse(listing));
const paths = packed.flatMap(({ files }) => files.map(({ path }) => path));

mkdirSync(folder, { recursive: true });
const archive = join(folder, `${name}.tgz`);
const sameForAll = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX'];
execFileSync(
  'tar',
  ['-czf', archive, ...sameForAll, `--transform=flags=r;s,^,${name}/,`, '--', ...paths, 'package-lock.json', '.npmrc'],
  { cwd: root },
);
console.log(archive);

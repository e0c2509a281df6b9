import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, constants, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { goodPassword, newEmail } from './accounts.ts';
import { newSecret } from './config.ts';
import { asUser, buildImage, type Image, listFiles } from './image-build.ts';
import { type MailServer, readHeaders, startMailServer } from './mail-server.ts';
import { findFreePort } from './ports.ts';
import { listChildren, sendSignal } from './processes.ts';
import { type Answer, send } from './program.ts';
import { inScratch } from './scratch.ts';
import { backends } from './system.ts';
import { until } from './until.ts';

const repository = join(import.meta.dirname, '..');
const isRoot = process.getuid?.() === 0;
// A container's first process has other signals by default than any other has.
const inNamespace = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
const canBeFirst = isRoot && spawnSync('unshare', [...inNamespace.slice(1), 'true']).status === 0;
const startLimitMs = 20_000;
const runLimitMs = 60_000;

describe('the image, built and run as plain commands', () => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-image-'));
  let image: Image;
  let mail: MailServer;

  before(async () => {
    image = buildImage(repository, folder);
    mail = await startMailServer();
  });
  after(async () => {
    await mail?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('has the dependencies of production and no others, no test, and nothing that its user may write to', () => {
    const app = join(image.root, 'app');
    const installed = readdirSync(join(app, 'node_modules'));
    for (const name of ['typescript', 'smtp-server', 'playwright-core', 'node'])
      assert.ok(!installed.includes(name), name);
    const files = listFiles(app);
    assert.ok(files.includes('src/start.js'));
    const own = files.filter((path) => !path.startsWith('node_modules/'));
    assert.deepEqual(
      own.filter((path) => /\.test\.ts$|^(?:test|bench|data|\.env)/.test(path)),
      [],
    );
    if (isRoot) assert.deepEqual(findWritable(app, 1000), []);
    assert.equal(statSync(join(image.root, 'data')).mode & 0o777, 0o700);
  });

  for (const backend of backends) {
    test(`registers and logs in, keeps its data over a restart, and stops in time (${backend})`, async (t) => {
      await inScratch(async ({ DATA_DIR, ...scratch }) => {
        const temporary = mkdtempSync(join(folder, 'tmp-'));
        giveToUser(image, temporary);
        const PORT = `${await findFreePort()}`;
        const environment = { ...environmentFor(image, mail), ...scratch, TMPDIR: temporary, PORT };
        const contents = listFiles(join(image.root, 'app'));

        const first = await startImage(t, image, environment);
        const email = newEmail();
        assert.equal((await registerByMail(first, mail, email)).status, 201);
        assert.equal(await first.stop(), 0);
        assert.equal(await isHealthy(image, environment), false);

        const second = await startImage(t, image, environment);
        const login = await send(second, {
          method: 'POST',
          path: '/auth/login',
          body: { email, password: goodPassword },
        });
        assert.equal(login.status, 200);
        const doctor = await runIn(image, ['latchkey', 'doctor', '--json'], environment);
        const findings: { check: string; state: string }[] = JSON.parse(doctor.output).findings;
        const problems = findings.filter(({ state }) => state === 'problem').map(({ check }) => check);
        // The mails of the tests come from a domain that nobody can have.
        assert.deepEqual(problems, ['mail_sender'], doctor.output);
        assert.equal(await second.stop(), 0);

        assert.deepEqual(listFiles(join(image.root, 'app')), contents);
        assert.deepEqual(readdirSync(temporary), []);
        for (const name of readdirSync(join(image.root, 'data'))) rmSync(join(image.root, 'data', name));
      }, backend);
    });
  }

  test('starts with what Node.js compiled when the image was built', async () => {
    const environment = { ...environmentFor(image, mail), NODE_DEBUG_NATIVE: 'COMPILE_CACHE' };
    const { output } = await runIn(image, ['latchkey', 'openapi'], environment);
    const accepted = output.match(/V8 code cache for ESM file:\S+\/src\/\S+\.ts was accepted/g) ?? [];
    assert.ok(accepted.length > 100, `${accepted.length} files came from the cache`);
  });

  test('refuses to start without a secret, and names what is missing', async () => {
    const { SECRET_KEY: _secret, ...environment } = environmentFor(image, mail);
    const { code, output } = await runIn(image, image.command, environment);
    assert.equal(code, 1);
    assert.match(output, /SECRET_KEY/);
  });
});

type Environment = Record<string, string>;

function environmentFor(image: Image, mail: MailServer): Environment {
  return {
    ...image.environment,
    // Not the address of production: a test is reached from this machine alone.
    HOST: '127.0.0.1',
    PUBLIC_URL: 'https://auth.example.com',
    SECRET_KEY: newSecret(),
    SMTP_URL: mail.url,
    MAIL_FROM: 'no-reply@example.com',
    BCRYPT_COST: '10',
  };
}

/** Runs a command to its end as the user of the image, where it works. */
async function runIn(image: Image, command: readonly string[], env: Environment): Promise<Ended> {
  const child = launch(image, command, env);
  const [code] = await once(child.process, 'close');
  return { code, output: child.output() };
}

type Ended = { code: number | null; output: string };

function launch(image: Image, command: readonly string[], env: Environment, wrapper: readonly string[] = []) {
  const [program = '', ...args] = [...wrapper, ...asUser(image.user), ...command];
  const cwd = join(image.root, image.workingFolder);
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: runLimitMs });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
    });
  return { process: child, output: () => output };
}

async function isHealthy(image: Image, environment: Environment): Promise<boolean> {
  return (await runIn(image, image.healthCheck, environment)).code === 0;
}

/** A started image; `stop` sends SIGTERM and returns the exit code. */
type Container = { origin: string; stop(): Promise<number | null> };

/** Starts the image, as the first process where that is possible, and waits until its health check says that it answers. */
async function startImage(t: TestContext, image: Image, env: Environment): Promise<Container> {
  const { process: child, output } = launch(image, image.command, env, canBeFirst ? inNamespace : []);
  const ended = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  await until(async () => {
    if (child.exitCode !== null) throw new Error(output());
    return isHealthy(image, env);
  }, startLimitMs);
  const pid = findService(child);
  return {
    origin: `http://127.0.0.1:${env['PORT']}`,
    async stop() {
      const sentAtMs = performance.now();
      sendSignal(pid, 'SIGTERM');
      const [code] = await ended;
      assert.ok(performance.now() - sentAtMs < 10_000, 'a container engine would have killed it');
      return code;
    },
  };
}

/** The process of the service itself, which in a namespace of its own is the first one there. */
function findService(child: ChildProcess): number {
  const pid = canBeFirst ? listChildren(child.pid ?? 0)[0] : child.pid;
  assert.ok(pid, 'the service has no process');
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  if (canBeFirst) assert.match(status, /^NSpid:\t\d+(?:\t\d+)*\t1$/m);
  if (isRoot) assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m);
  return pid;
}

/** Registers an account with the code that was mailed. */
async function registerByMail(container: Container, mail: MailServer, email: string): Promise<Answer> {
  const purpose = 'registration';
  const post = (path: string, body: unknown) => send(container, { method: 'POST', path, body });
  assert.equal((await post('/auth/send-code', { email, purpose })).status, 202);
  const find = () => mail.received.find(({ to }) => to.includes(email));
  await until(() => find() !== undefined);
  const code = readHeaders(find()?.data ?? '')
    .get('subject')?.[0]
    ?.slice(0, 6);
  const proof = await post('/auth/verify-code', { email, purpose, code });
  const { verification_token } = proof.body;
  return post('/auth/register', { verification_token, password: goodPassword });
}

/** What below a folder its user could write to: what is his, or everybody's. */
function findWritable(folder: string, uid: number): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => {
    const { uid: owner, mode } = lstatSync(join(folder, path));
    return owner === uid || ((mode & 0o002) !== 0 && (mode & constants.S_IFMT) !== constants.S_IFLNK);
  });
}

function giveToUser({ user }: Image, folder: string): void {
  const [uid = 0, gid = 0] = user.split(':').map(Number);
  if (isRoot) chownSync(folder, uid, gid);
}

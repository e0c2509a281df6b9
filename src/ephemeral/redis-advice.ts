import { answerWithin } from '../deadline.ts';
import { addressText, type RedisAddress } from '../redis-url.ts';

type Asked = { sendCommand(args: string[]): Promise<unknown> };

const answerLimitMs = 2_000;
const oldestMajorVersion = 7;

/** Says what an operator should change about a server. Some services do not tell, and then there is nothing to say. */
export async function adviseOn(client: Asked, address: RedisAddress): Promise<string[]> {
  const [memory, server] = await Promise.all(['memory', 'server'].map((section) => readInfo(client, section)));
  const name = `Redis at ${addressText(address)}`;
  const warnings: string[] = [];
  const policy = readField(memory, 'maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') {
    warnings.push(
      `${name} may evict keys when its memory is full (maxmemory-policy is ${policy}): codes, limits and the marks of revoked sessions could vanish before their time. Set maxmemory-policy to noeviction.`,
    );
  }
  const version = readField(server, 'redis_version');
  if (version !== undefined && Number.parseInt(version, 10) < oldestMajorVersion) {
    warnings.push(
      `${name} is version ${version}. Latchkey is made for Redis ${oldestMajorVersion} or later, or Valkey.`,
    );
  }
  return warnings;
}

async function readInfo(client: Asked, section: string): Promise<string> {
  try {
    return String(await answerWithin(answerLimitMs, client.sendCommand(['INFO', section])));
  } catch {
    return '';
  }
}

function readField(info: string | undefined, name: string): string | undefined {
  return new RegExp(`^${name}:([\\w.-]+)`, 'm').exec(info ?? '')?.[1];
}

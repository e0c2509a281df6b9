import { inspectRedis, type RedisServerFacts } from '../ephemeral/redis-inspection.ts';
import { checkClock } from './clock-skew.ts';
import { type Finding, ok, problem, skipped, warning } from './finding.ts';

const slowMs = 20;
const keyPrefix = 'latchkey:';

/** Looks at every server that REDIS_URL names. */
export async function checkRedis(url: string | undefined): Promise<Finding[]> {
  if (url === undefined) return [skipped('redis', 'REDIS_URL is not set: codes and limits are kept in the process.')];
  const { mode, fault, servers } = await inspectRedis(url, keyPrefix);
  const titles = { single: 'one server', sentinel: 'a master that sentinels watch', cluster: 'a cluster' } as const;
  const whole =
    fault === undefined
      ? ok('redis', `REDIS_URL names ${titles[mode]}.`)
      : problem('redis', {
          what: `Redis: ${fault}.`,
          why: 'Codes are refused with 503 until it is mended; logging in with a password goes on.',
          remedy: 'Look at the log of the servers named below, and at the network between.',
        });
  return [whole, ...servers.flatMap(judgeServer)];
}

function judgeServer(server: RedisServerFacts): Finding[] {
  const name = `${server.role === 'sentinel' ? 'The sentinel' : 'Redis'} at ${server.name}`;
  if (server.fault !== undefined) return [judgeFault(name, server.fault)];
  if (server.role === 'sentinel') return [ok('redis_server', `${name} names the master and has a quorum.`)];
  const advice = server.advice.map((sentences) => {
    const [what = '', ...rest] = sentences.split(/(?<=\.) (?=[A-Z])|: (?=codes)/);
    const remedy = rest.pop() ?? 'See docs/operations.md.';
    return warning('redis_server', {
      what: ending(what),
      why: ending(capital(rest.join(' ') || 'It was not tested with it.')),
      remedy,
    });
  });
  const { latencyMs = 0, version, clockAheadMs } = server;
  const latency = `${latencyMs.toFixed(1)} ms`;
  return [
    ...(advice.length > 0
      ? advice
      : [ok('redis_server', `${name} is version ${version ?? 'unknown'} and evicts nothing.`)]),
    latencyMs <= slowMs
      ? ok('redis_latency', `${name} answers in ${latency}.`)
      : warning('redis_latency', {
          what: `${name} answers in ${latency}.`,
          why: 'Every code and every limit waits for it.',
          remedy: 'Put it nearer to the service, or look what keeps it busy (redis-cli --latency, SLOWLOG GET).',
        }),
    ...(clockAheadMs === undefined ? [] : [checkClock(name, clockAheadMs, latencyMs)]),
  ];
}

function judgeFault(name: string, fault: string): Finding {
  const isRefusal = /NOAUTH|WRONGPASS|NOPERM/.test(fault);
  return problem('redis_server', {
    what: `${name} cannot be used: ${fault.replace(/\.$/, '')}.`,
    why: 'Codes are refused with 503 until it is mended; logging in with a password goes on.',
    remedy: isRefusal
      ? 'Correct user and password in REDIS_URL, or what the user may do: see "Redis" in docs/operations.md.'
      : 'Start it, or correct host, port and TLS in REDIS_URL.',
  });
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function ending(text: string): string {
  return text.endsWith('.') ? text : `${text}.`;
}

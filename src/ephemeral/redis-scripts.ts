import { defineScript } from '@redis/client';

/**
 * Begins a script that must not be carried out once its caller has left, as happens where a server stood still or
 * a connection was slow. The caller adds a last argument, the moment on the server's clock at which it leaves, or
 * nothing where the server does not tell its time. The scripts that begin so have HAS_DEADLINE.
 */
const refuseWhenLate = `
      local deadline = tonumber(table.remove(ARGV))
      if deadline then
        local time = redis.call('TIME')
        if time[1] * 1000 + time[2] / 1000 > deadline then return redis.error_reply('LATE the caller has left') end
      end`;

/**
 * Each step that must be atomic is one script on one key, so it works on a cluster too. The time comes
 * from the caller: an entry is dead when its own time has passed, and PEXPIRE only collects it.
 */
export const redisScripts = {
  latchkeyPut: defineScript({
    NUMBER_OF_KEYS: 1,
    HAS_DEADLINE: true,
    SCRIPT: `${refuseWhenLate}
      local digest, payload, expires_at, tries, now = unpack(ARGV)
      redis.call('DEL', KEYS[1])
      redis.call('HSET', KEYS[1], 'digest', digest, 'payload', payload, 'expires_at', expires_at, 'tries', tries)
      redis.call('PEXPIRE', KEYS[1], math.max(1, tonumber(expires_at) - tonumber(now)))
      return 1`,
    parseCommand(parser, key: string, ...args: string[]) {
      parser.pushKey(key);
      parser.push(...args);
    },
    transformReply: (reply: unknown) => reply,
  }),

  latchkeyPeek: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
      local digest, now = unpack(ARGV)
      local entry = redis.call('HMGET', KEYS[1], 'digest', 'payload', 'expires_at')
      if not entry[1] or tonumber(entry[3]) <= tonumber(now) or entry[1] ~= digest then return false end
      return entry[2]`,
    parseCommand(parser, key: string, ...args: string[]) {
      parser.pushKey(key);
      parser.push(...args);
    },
    transformReply: (reply: unknown) => (typeof reply === 'string' ? reply : undefined),
  }),

  latchkeyTake: defineScript({
    NUMBER_OF_KEYS: 1,
    HAS_DEADLINE: true,
    SCRIPT: `${refuseWhenLate}
      local now = tonumber(ARGV[1])
      local entry = redis.call('HMGET', KEYS[1], 'digest', 'payload', 'expires_at', 'tries')
      if not entry[1] or tonumber(entry[3]) <= now then return false end
      local tries_left = -1
      if entry[4] ~= '' then tries_left = redis.call('HINCRBY', KEYS[1], 'tries', -1) end
      for i = 2, #ARGV do
        if ARGV[i] == entry[1] then
          redis.call('DEL', KEYS[1])
          return entry[2]
        end
      end
      if tries_left == 0 then redis.call('DEL', KEYS[1]) end
      return false`,
    parseCommand(parser, key: string, ...args: string[]) {
      parser.pushKey(key);
      parser.push(...args);
    },
    transformReply: (reply: unknown) => (typeof reply === 'string' ? reply : undefined),
  }),

  // A list of the times of use, oldest first. ARGV: now, then pairs of uses and length in milliseconds.
  latchkeySpend: defineScript({
    NUMBER_OF_KEYS: 1,
    HAS_DEADLINE: true,
    SCRIPT: `${refuseWhenLate}
      local now = tonumber(ARGV[1])
      local longest, wait = 0, 0
      for i = 3, #ARGV, 2 do longest = math.max(longest, tonumber(ARGV[i])) end
      local times = redis.call('LRANGE', KEYS[1], 0, -1)
      for i = 2, #ARGV, 2 do
        local uses, per = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
        local oldest = tonumber(times[#times - uses + 1] or '')
        if oldest and oldest > now - per then wait = math.max(wait, oldest + per - now) end
      end
      if wait > 0 then return wait end
      while times[1] and tonumber(times[1]) <= now - longest do
        table.remove(times, 1)
        redis.call('LPOP', KEYS[1])
      end
      redis.call('RPUSH', KEYS[1], ARGV[1])
      redis.call('PEXPIRE', KEYS[1], longest)
      return 0`,
    parseCommand(parser, key: string, ...args: string[]) {
      parser.pushKey(key);
      parser.push(...args);
    },
    transformReply: (reply: unknown) => Number(reply),
  }),

  // The sessions of one user: a field for each, and until when none may be served or added. Their expiry is by the
  // clock of Redis, the one that all instances share.
  latchkeySessionRead: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      local found = redis.call('HMGET', KEYS[1], 'blocked_until', ARGV[1])
      if not found[2] or (found[1] and tonumber(found[1]) > now) then return false end
      local expires_at, entry = string.match(found[2], '^(%d+):(.*)$')
      if tonumber(expires_at) <= now then return false end
      return entry`,
    parseCommand(parser, key: string, sessionId: string) {
      parser.pushKey(key);
      parser.push(sessionId);
    },
    transformReply: (reply: unknown) => (typeof reply === 'string' ? reply : undefined),
  }),

  // ARGV: session, life in milliseconds, entry.
  latchkeySessionFill: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      local life = tonumber(ARGV[2])
      local blocked_until = redis.call('HGET', KEYS[1], 'blocked_until')
      if blocked_until and tonumber(blocked_until) > now then return 0 end
      redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%s', now + life, ARGV[3]))
      redis.call('PEXPIRE', KEYS[1], life)
      return 1`,
    parseCommand(parser, key: string, ...args: string[]) {
      parser.pushKey(key);
      parser.push(...args);
    },
    transformReply: (reply: unknown) => reply === 1,
  }),

  latchkeySessionBlock: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      redis.call('DEL', KEYS[1])
      redis.call('HSET', KEYS[1], 'blocked_until', string.format('%.0f', now + tonumber(ARGV[1])))
      redis.call('PEXPIRE', KEYS[1], ARGV[1])
      return 1`,
    parseCommand(parser, key: string, blockMs: string) {
      parser.pushKey(key);
      parser.push(blockMs);
    },
    transformReply: (reply: unknown) => reply,
  }),

  // The same for every user: while the key is there, nothing is served.
  latchkeySessionsBlock: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
      redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
      return 1`,
    parseCommand(parser, key: string, blockMs: string) {
      parser.pushKey(key);
      parser.push(blockMs);
    },
    transformReply: (reply: unknown) => reply,
  }),

  latchkeySessionsBlocked: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `return redis.call('EXISTS', KEYS[1])`,
    parseCommand(parser, key: string) {
      parser.pushKey(key);
    },
    transformReply: (reply: unknown) => reply !== 0,
  }),
};

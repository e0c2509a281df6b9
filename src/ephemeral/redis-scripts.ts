import { defineScript } from '@redis/client';

/**
 * Each step that must be atomic is one script on one key, so it works on a cluster too. The time comes
 * from the caller: an entry is dead when its own time has passed, and PEXPIRE only collects it.
 */
export const redisScripts = {
  latchkeyPut: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `
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
    SCRIPT: `
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
    SCRIPT: `
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
};

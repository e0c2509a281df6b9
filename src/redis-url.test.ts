import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findRedisUrlFault, RedisUrlError, readRedisUrl } from './redis-url.ts';

const plain = { isEncrypted: false, credentials: {} };

describe('a REDIS_URL', () => {
  test('of one server names its address, its user and its database', () => {
    const one = { ...plain, mode: 'single', address: { host: 'cache', port: 6379 }, database: 0 };
    assert.deepEqual(readRedisUrl('redis://cache'), one);
    assert.deepEqual(readRedisUrl('redis://CACHE:6379/'), one);
    assert.deepEqual(readRedisUrl('rediss://cache/'), { ...one, isEncrypted: true });
    assert.deepEqual(readRedisUrl('redis://user:password@10.0.0.1:7000/12'), {
      isEncrypted: false,
      credentials: { username: 'user', password: 'password' },
      mode: 'single',
      address: { host: '10.0.0.1', port: 7000 },
      database: 12,
    });
    assert.deepEqual(readRedisUrl('redis://:password@cache'), { ...one, credentials: { password: 'password' } });
  });

  test('of sentinels names each of them, the master, and what the two ask for', () => {
    const url = 'redis+sentinel://user:password@s1,s2:7000,[fd00::3]:7001/main.1_a-b/3';
    const read = readRedisUrl(`${url}?sentinel_username=watcher&sentinel_password=p%2Fq`);
    assert.deepEqual(read, {
      isEncrypted: false,
      credentials: { username: 'user', password: 'password' },
      mode: 'sentinel',
      sentinels: [
        { host: 's1', port: 26_379 },
        { host: 's2', port: 7000 },
        { host: 'fd00::3', port: 7001 },
      ],
      sentinelCredentials: { username: 'watcher', password: 'p/q' },
      masterName: 'main.1_a-b',
      database: 3,
    });
    const least = { sentinels: [{ host: 's', port: 26_379 }], sentinelCredentials: {}, masterName: 'm', database: 0 };
    for (const ending of ['/m', '/m/', '/m/0', '/m?']) {
      const expected = { ...plain, mode: 'sentinel', ...least };
      assert.deepEqual(readRedisUrl(`redis+sentinel://s${ending}`), expected, ending);
    }
    assert.equal(readRedisUrl('rediss+sentinel://s/m').isEncrypted, true);
  });

  test('of a cluster names the servers to begin with', () => {
    const seeds = [
      { host: 'one', port: 6379 },
      { host: '::1', port: 7001 },
    ];
    const credentials = { password: 'password' };
    const expected = { isEncrypted: true, credentials, mode: 'cluster', seeds };
    for (const ending of ['', '/', '/0']) {
      assert.deepEqual(readRedisUrl(`rediss+cluster://:password@one,[::1]:7001${ending}`), expected, ending);
    }
  });

  test('gives back every password as it is, percent-encoded or not where it need not be', () => {
    for (const password of ['a:b', 'a@b', 'a+b', 'a,b', 'a/b?c#d%e', 'grün', ' x ', '[', '&=']) {
      const encoded = encodeURIComponent(password);
      for (const scheme of ['redis', 'redis+cluster']) {
        assert.deepEqual(readRedisUrl(`${scheme}://:${encoded}@h`).credentials, { password }, password);
      }
      const read = readRedisUrl(`redis+sentinel://:${encoded}@h/m?sentinel_password=${encoded}`);
      assert.deepEqual(read.credentials, { password });
      assert.deepEqual('sentinelCredentials' in read && read.sentinelCredentials, { password });
    }
    for (const password of ['a:b', 'a@b', 'a+b', 'a,b', 'grün', '[']) {
      assert.deepEqual(readRedisUrl(`redis://:${password}@h`).credentials, { password }, password);
    }
  });
});

const manyHosts = Array.from({ length: 65 }, (_, index) => `h${index}`).join(',');

describe('a REDIS_URL is refused, in words that never repeat it,', () => {
  const refused: [url: string, fault: RegExp][] = [
    ['redis://one,two', /several hosts/],
    ['redis://one,one', /a host twice/],
    ['redis+cluster://one,ONE:6379', /a host twice/],
    ['redis+sentinel://one,one:26379/m', /a host twice/],
    [`redis+cluster://${manyHosts}`, /more than 64 hosts/],
    ['redis+cluster://one,', /names no host/],
    ['redis+cluster://,one', /names no host/],
    ['redis+sentinel:///m', /names no host/],
    ['redis://:6379', /a port that cannot be/],
    ['redis://one:', /a port that cannot be/],
    ['redis://one:0', /a port that cannot be/],
    ['redis://one:65536', /a port that cannot be/],
    ['redis://one:1:2', /a port that cannot be/],
    ['redis://::1', /a port that cannot be/],
    ['redis://[::1', /a port that cannot be/],
    ['redis://[fe80::1%25eth0]', /a port that cannot be/],
    ['redis://[localhost]', /a port that cannot be/],
    ['redis://[]', /a port that cannot be/],
    ['redis://-one', /a port that cannot be/],
    ['redis+cluster://one;two', /a port that cannot be/],
    ['redis://one/main', /number of a database/],
    ['redis://one/-1', /number of a database/],
    ['redis://one/1/2', /number of a database/],
    ['redis+sentinel://one/m/main', /number of a database/],
    ['redis+cluster://one/1', /names a database/],
    ['redis+sentinel://one', /name of the master/],
    ['redis+sentinel://one/', /name of the master/],
    ['redis+sentinel://one//0', /name of the master/],
    ['redis+sentinel://one/m/0/1', /name of the master/],
    ['redis+sentinel://one/m%20n', /name of the master/],
    ['redis+sentinel://one?sentinel_password=secret', /name of the master/],
    ['redis://one?db=1', /parameters/],
    ['redis://one?', /parameters/],
    ['redis+cluster://one?sentinel_password=secret', /parameters/],
    ['redis+sentinel://one/m?password=secret', /unknown or empty/],
    ['redis+sentinel://one/m?sentinel_password', /unknown or empty/],
    ['redis+sentinel://one/m?sentinel_password=', /unknown or empty/],
    ['redis+sentinel://one/m?sentinel_password=secret&', /unknown or empty/],
    ['redis+sentinel://one/m?Sentinel_Password=secret', /unknown or empty/],
    ['redis+sentinel://one/m?sentinel_password=secret&sentinel_password=secret', /sentinel_password twice/],
    ['redis+sentinel://one/m?sentinel_username=secret', /a user without a password/],
    ['redis+sentinel://one/m?sentinel_password=secret%', /a % that is not percent-encoded/],
    ['redis://secret@one', /a user without a password/],
    ['redis://:sec%ret@one', /a % that is not percent-encoded/],
    ['redis://:sec#ret@one', /a # that is not percent-encoded/],
    ['redis://:sec ret@one', /a space that is not percent-encoded/],
    ['redis://:sec/ret@one', /percent-encoded/],
    ['redis://:sec?ret@one', /percent-encoded/],
    ['redis+cluster://:secret/@one,two', /percent-encoded/],
    ['redis+swarm://one', /not a valid URL/],
    ['http://one', /not a valid URL/],
    ['redis://one\n', /a space/],
  ];
  for (const [url, expected] of refused) {
    test(`as ${JSON.stringify(url.slice(0, 60))} is`, () => {
      const fault = findRedisUrlFault(url);
      assert.match(fault ?? '', expected);
      assert.doesNotMatch(fault ?? '', /sec|ret\b|secret/);
      assert.throws(() => readRedisUrl(url), RedisUrlError);
    });
  }
});

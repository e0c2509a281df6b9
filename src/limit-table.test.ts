import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { newSecret, problemsOf, production } from '../test/config.ts';
import { formatPolicies, formatStretch, type LimitPolicy, parsePolicies } from './limit-grammar.ts';
import { formatRateLimits, limitNames, limitTable, readRateLimits } from './limit-table.ts';

const policy: fc.Arbitrary<LimitPolicy> = fc.record(
  {
    requests: fc.integer({ min: 1, max: 1_000_000 }),
    perSeconds: fc.oneof(
      fc.integer({ min: 1, max: 604_800 }),
      fc.constantFrom(1, 60, 90, 900, 3_600, 5_400, 86_400, 604_800),
    ),
    scope: fc.constantFrom('ip', 'account', 'pair'),
  },
  { noNullPrototype: true },
);
const policies = fc.uniqueArray(policy, {
  minLength: 1,
  maxLength: 6,
  selector: ({ scope, perSeconds }) => `${scope} ${perSeconds}`,
});

describe('the grammar of limits', () => {
  test('reads requests, a stretch of time and whom it counts', () => {
    const read = (text: string) => {
      const parsed = parsePolicies(text);
      assert.equal(parsed.fault, undefined, text);
      return parsed.policies;
    };
    assert.deepEqual(read('20/m/ip'), [{ requests: 20, perSeconds: 60, scope: 'ip' }]);
    assert.deepEqual(read('1/s/pair'), [{ requests: 1, perSeconds: 1, scope: 'pair' }]);
    assert.deepEqual(read('10/15m/account'), [{ requests: 10, perSeconds: 900, scope: 'account' }]);
    assert.deepEqual(read('1000000/7d/ip'), [{ requests: 1_000_000, perSeconds: 604_800, scope: 'ip' }]);
    assert.deepEqual(
      read(' 20/m/ip , 5/h/ip,5/m/pair').map(({ requests, perSeconds, scope }) => [requests, perSeconds, scope]),
      [
        [20, 60, 'ip'],
        [5, 3_600, 'ip'],
        [5, 60, 'pair'],
      ],
    );
  });

  test('what is written is read as the same, and what is read is written in one form', () => {
    fc.assert(
      fc.property(policies, (limits) => {
        const text = formatPolicies(limits);
        assert.deepEqual(parsePolicies(text).policies, limits);
        assert.equal(formatPolicies(parsePolicies(text.replaceAll(',', ' , ')).policies ?? []), text);
      }),
      { numRuns: 500 },
    );
  });

  test('a stretch is the same in every unit that can say it', () => {
    for (const [texts, seconds] of [
      [['60s', 'm', '1m'], 60],
      [['3600s', '60m', 'h', '1h'], 3_600],
      [['86400s', '1440m', '24h', 'd', '1d'], 86_400],
    ] as const) {
      for (const text of texts) assert.equal(parsePolicies(`1/${text}/ip`).policies?.[0]?.perSeconds, seconds, text);
      assert.equal(
        formatStretch(seconds),
        texts.find((text) => text.length === 1),
      );
    }
  });

  test('anything else is refused with a sentence and never throws', () => {
    const refused = ['', ' ', '20', '20/m', '20/m/ip/', '/m/ip', '20//ip', '20/m/', '20/m/IP', '20/M/ip', '20/m/user'];
    const numbers = ['-1/m/ip', '1.5/m/ip', '1e3/m/ip', '0x14/m/ip', '020/m/ip', '20/0m/ip', '20/-5m/ip', '٢٠/m/ip'];
    const lists = ['20/m/ip,', ',20/m/ip', '20/m/ip;5/m/ip', '20/m/ip 5/m/ip', '20 / m / ip', '20/m/ip\n5/h/ip'];
    for (const text of [...refused, ...numbers, ...lists]) {
      assert.match(parsePolicies(text).fault ?? '', /which is not <requests>\/<stretch>\/<scope>/, text);
    }
    for (const text of ['0/m/ip', '1000001/m/ip', `${'9'.repeat(400)}/m/ip`]) {
      assert.match(parsePolicies(text).fault ?? '', /requests are 1 to 1000000$/, text);
    }
    for (const text of ['1/8d/ip', '1/604801s/ip', `1/${'9'.repeat(400)}d/ip`]) {
      assert.match(parsePolicies(text).fault ?? '', /a stretch is at most 7 days$/, text);
    }
    assert.match(parsePolicies('20/m/ip,10/60s/ip').fault ?? '', /two policies for ip in the same stretch/);
    const seven = Array.from({ length: 7 }, (_, index) => `1/${index + 1}s/ip`).join(',');
    assert.match(parsePolicies(seven).fault ?? '', /more than 6 policies/);
    fc.assert(
      fc.property(fc.string(), (text) => {
        const { fault = '' } = parsePolicies(text);
        assert.ok(fault.length < 500);
      }),
    );
  });
});

describe('RATE_LIMITS', () => {
  test('on is the table of defaults, and off is none', () => {
    const { limits, faults } = readRateLimits('on');
    assert.deepEqual(faults, []);
    for (const name of limitNames) assert.equal(limits && formatPolicies(limits[name]), limitTable[name].policies);
    assert.deepEqual(readRateLimits('off'), { limits: undefined, faults: [] });
  });

  test('no default lets strangers use up what an account may do', () => {
    for (const name of ['send-code', 'verify-code', 'login'] as const) {
      assert.doesNotMatch(limitTable[name].policies, /account/, name);
    }
  });

  test('an override replaces every policy of its limit and leaves the others', () => {
    const { limits, faults } = readRateLimits(' login = 2/m/ip , 1/h/pair ; refresh=5/s/ip; ');
    assert.deepEqual(faults, []);
    const { login, refresh, ...rest } = limits ?? assert.fail();
    assert.deepEqual([formatPolicies(login), formatPolicies(refresh)], ['2/m/ip,1/h/pair', '5/s/ip']);
    const { login: _login, refresh: _refresh, ...defaults } = readRateLimits('on').limits ?? assert.fail();
    assert.deepEqual(rest, defaults);
  });

  test('all limits can be said, and are read as they were', () => {
    fc.assert(
      fc.property(fc.array(policies, { minLength: limitNames.length, maxLength: limitNames.length }), (lists) => {
        const all = limitNames.map((name, index) => {
          const possible = lists[index]?.filter(({ scope }) =>
            (limitTable[name].scopes as readonly string[]).includes(scope),
          );
          return [name, possible?.length ? possible : [{ requests: 1, perSeconds: 1, scope: 'ip' }]];
        });
        const limits = Object.fromEntries(all);
        assert.deepEqual(readRateLimits(formatRateLimits(limits)), { limits, faults: [] });
      }),
      { numRuns: 50 },
    );
  });

  test('what is wrong with it stops the start with a sentence that says what and where', () => {
    const secret = { SECRET_KEY: newSecret() };
    const cases: [string, RegExp][] = [
      ['ON', /^RATE_LIMITS: "ON" is neither on, off nor an override such as login=20\/m\/ip,5\/m\/pair$/],
      ['on;login=5/m/ip', /^RATE_LIMITS: "on" is neither on, off nor an override/],
      [';', /^RATE_LIMITS: "" is neither/],
      ['login', /^RATE_LIMITS: "login" is neither/],
      ['login=5/m/ip=6/m/ip', /is neither/],
      ['logn=5/m/ip', /^RATE_LIMITS: "logn" is no limit; the limits are send-code, .+, read, write$/],
      ['__proto__=5/m/ip', /^RATE_LIMITS: "__proto__" is no limit/],
      ['login=', /^RATE_LIMITS: login has "", which is not <requests>/],
      ['login=off', /^RATE_LIMITS: login has "off", which is not/],
      ['login=0/m/ip', /^RATE_LIMITS: login has "0\/m\/ip": requests are 1 to 1000000$/],
      ['login=1/8d/ip', /^RATE_LIMITS: login has "1\/8d\/ip": a stretch is at most 7 days$/],
      ['refresh=5/m/account', /^RATE_LIMITS: refresh cannot be limited by account, .+; its scope is ip$/],
      ['register=9/m/ip,5/m/pair', /^RATE_LIMITS: register cannot be limited by pair/],
      ['login=1/m/ip;login=2/m/ip', /^RATE_LIMITS: login is set twice$/],
      ['x'.repeat(4_097), /^RATE_LIMITS must not have more than 4096 characters$/],
    ];
    for (const [RATE_LIMITS, expected] of cases) {
      const [problem = '', ...others] = problemsOf({ ...secret, RATE_LIMITS });
      assert.match(problem, expected, RATE_LIMITS.slice(0, 40));
      if (RATE_LIMITS.length < 4_000) assert.deepEqual(others, []);
    }
    assert.equal(problemsOf({ ...secret, RATE_LIMITS: 'logn=5/m/ip;refresh=5/m/pair' }).length, 2);
    assert.deepEqual(problemsOf({ ...production, RATE_LIMITS: 'login=5/m/ip,2/h/account' }), []);
  });
});

import { encodeRequest, type LoadReply, openConnection } from './http-connection.ts';
import { expectStatus } from './load.ts';
import type { Seeded } from './seed.ts';

/** What is asked of the service: the next request of a connection, and what its reply must be. */
export type Work = {
  name: 'me' | 'refresh' | 'login';
  connections: number;
  next(connection: number): Buffer;
  check(reply: LoadReply, connection: number): void;
};

type Chain = { refreshToken: string };

/**
 * Makes the works for whatever listens at an origin. The users of the sample are divided: those of one part are asked
 * for with access tokens, those of the other each hold the end of a chain of refreshes.
 */
export async function prepareWorks(origin: string, { sample, password }: Seeded): Promise<(origin: string) => Work[]> {
  const chains: Chain[] = sample.slice(0, refreshConnections).map(({ refreshToken }) => ({ refreshToken }));
  const readers = sample.slice(refreshConnections);
  const tokens = await exchange(origin, readers);

  return (target) => {
    const asking = tokens.map((token) =>
      encodeRequest(target, { method: 'GET', path: '/users/me', headers: { authorization: `Bearer ${token}` } }),
    );
    const loggingIn = readers.map(({ email }) =>
      encodeRequest(target, { method: 'POST', path: '/auth/login', body: JSON.stringify({ email, password }) }),
    );
    const expect = (reply: LoadReply) => expectStatus(reply, 200);
    return [
      { name: 'me', connections: 32, next: inTurn(asking), check: expect },
      { name: 'refresh', connections: refreshConnections, ...refreshing(target, chains) },
      { name: 'login', connections: 8, next: inTurn(loggingIn), check: expect },
    ];
  };
}

const refreshConnections = 32;

/** Each connection goes on where it ended, with the token that the last reply gave. */
function refreshing(target: string, chains: readonly Chain[]): Pick<Work, 'next' | 'check'> {
  return {
    next: (connection) => {
      const body = JSON.stringify({ refresh_token: chains[connection]?.refreshToken });
      return encodeRequest(target, { method: 'POST', path: '/auth/refresh', body });
    },
    check(reply, connection) {
      expectStatus(reply, 200);
      const chain = chains[connection];
      if (chain !== undefined) chain.refreshToken = JSON.parse(reply.body.toString()).refresh_token;
    },
  };
}

/** Exchanges refresh tokens for access tokens. */
async function exchange(origin: string, users: Seeded['sample']): Promise<string[]> {
  const connection = await openConnection(origin);
  const tokens: string[] = [];
  for (const { refreshToken } of users) {
    const body = JSON.stringify({ refresh_token: refreshToken });
    const reply = await connection.send(encodeRequest(origin, { method: 'POST', path: '/auth/refresh', body }));
    expectStatus(reply, 200);
    tokens.push(JSON.parse(reply.body.toString()).access_token);
  }
  connection.close();
  return tokens;
}

function inTurn(requests: readonly Buffer[]): () => Buffer {
  let sent = 0;
  return () => {
    sent += 1;
    return requests[sent % requests.length] ?? Buffer.alloc(0);
  };
}

import assert from 'node:assert/strict';
import type { TestUser } from '../accounts.ts';
import { administration, registerAdministrator, removeAdministrators } from '../administrators.ts';
import { type Call, call, type Reply } from '../client.ts';
import type { System } from '../system.ts';
import { inParallel, type Races } from './races.ts';

type Removal = (actor: TestUser, subject: TestUser) => Call;

/** Every way in which an administrator can take the last one away. */
const removals: Readonly<Record<string, Removal>> = {
  'taking the role away': (actor, subject) => administration(actor.accessToken).assign(subject.id, ['user']),
  disabling: (actor, subject) => administration(actor.accessToken).change(subject.id, { status: 'disabled' }),
  deleting: (actor, subject) => administration(actor.accessToken).remove(subject.id),
};

/** And the one that is open to everybody, for themselves. */
const ownDeletion: Removal = (actor) => ({ method: 'DELETE', path: '/users/me', token: actor.accessToken });

/** Races for the last administrator. */
export const administratorRaces: Races = {
  'of two administrators who remove each other at the same moment one stays, whatever the way': async (
    system,
    rounds,
  ) => {
    const ways = Object.values(removals);
    for (let round = 0; round < rounds(9); round += 1) {
      const [one, other] = await onlyAdministrators(system, 2);
      assert.ok(one && other);
      const [first, second] = [ways[round % 3], ways[Math.floor(round / 3) % 3]];
      assert.ok(first && second);
      const replies = await Promise.all([call(system, first(one, other)), call(system, second(other, one))]);
      requireOutcomes(replies);
      assert.equal(await countAdministrators(system), 1);
    }
  },

  'of 20 administrators who all leave at once, each in one of the ways, one stays': async (system, rounds) => {
    for (let round = 0; round < rounds(1); round += 1) {
      const ways = [...Object.values(removals), ownDeletion];
      const leaving = await onlyAdministrators(system, 20);
      const replies = await Promise.all(
        leaving.map((admin, index) => call(system, (ways[index % ways.length] ?? ownDeletion)(admin, admin))),
      );
      requireOutcomes(replies);
      assert.equal(replies.filter(({ status }) => status === 409).length, 1);
      assert.equal(await countAdministrators(system), 1);
    }
  },

  'of 20 administrators who each remove the next at once some stay, and no request fails': async (system, rounds) => {
    const ways = Object.values(removals);
    for (let round = 0; round < rounds(1); round += 1) {
      const ring = await onlyAdministrators(system, 20);
      const replies = await inParallel(20, (index) => {
        const [actor, subject] = [ring[index], ring[(index + 1) % 20]];
        assert.ok(actor && subject);
        return call(system, (ways[(index + round) % 3] ?? ownDeletion)(actor, subject));
      });
      requireOutcomes(replies);
      assert.ok((await countAdministrators(system)) >= 1);
    }
  },
};

/** Carried out, refused as the last, or made by somebody who was removed the moment before. */
function requireOutcomes(replies: readonly Reply[]): void {
  const refusals = ['last_administrator', 'insufficient_permission', 'invalid_token'];
  for (const { status, body, text } of replies) assert.ok(status < 300 || refusals.includes(body?.code), text);
}

async function onlyAdministrators(system: System, count: number): Promise<TestUser[]> {
  await removeAdministrators(system);
  const made: TestUser[] = [];
  for (let index = 0; index < count; index += 1) made.push(await registerAdministrator(system));
  return made;
}

async function countAdministrators({ deps }: System): Promise<number> {
  const rows = await deps.db
    .selectFrom('user_roles')
    .innerJoin('users', 'users.id', 'user_roles.user_id')
    .select('users.id')
    .where('role_name', '=', 'admin')
    .where('status', '=', 'active')
    .execute();
  return rows.length;
}

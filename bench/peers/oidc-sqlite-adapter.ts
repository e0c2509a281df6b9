import type { DatabaseSync } from 'node:sqlite';

type Payload = Record<string, unknown> & { grantId?: string; uid?: string; userCode?: string };

// These are revoked together with their grant.
const grantable = [
  'AccessToken',
  'AuthorizationCode',
  'RefreshToken',
  'DeviceCode',
  'BackchannelAuthenticationRequest',
];

/**
 * A durable store for oidc-provider, which brings none: one table with an index for each way it looks things up. Each of its
 * writes is committed by itself, because its adapters know of no transaction.
 */
export function createSqliteAdapter(database: DatabaseSync) {
  database.exec(`
    create table if not exists models (
      model text not null,
      id text not null,
      payload text not null,
      grant_id text,
      uid text,
      user_code text,
      consumed_at integer,
      expires_at integer,
      primary key (model, id)
    ) strict, without rowid;
    create index if not exists models_grant_id on models (grant_id) where grant_id is not null;
    create index if not exists models_uid on models (uid) where uid is not null;
    create index if not exists models_user_code on models (user_code) where user_code is not null;
  `);
  const upsert = database.prepare(`
    insert into models (model, id, payload, grant_id, uid, user_code, expires_at) values (?, ?, ?, ?, ?, ?, ?)
    on conflict (model, id) do update set payload = excluded.payload, expires_at = excluded.expires_at`);
  const columns = 'payload, consumed_at, expires_at';
  const byId = database.prepare(`select ${columns} from models where model = ? and id = ?`);
  const byUid = database.prepare(`select ${columns} from models where uid = ? and model = ?`);
  const byUserCode = database.prepare(`select ${columns} from models where user_code = ? and model = ?`);
  const consume = database.prepare('update models set consumed_at = ? where model = ? and id = ?');
  const remove = database.prepare('delete from models where model = ? and id = ?');
  const revoke = database.prepare(
    `delete from models where grant_id = ? and model in (${grantable.map((model) => `'${model}'`).join(', ')})`,
  );
  const count = database.prepare('select count(*) as count from models');

  function read(row: Record<string, unknown> | undefined): Payload | undefined {
    if (row === undefined || (row.expires_at !== null && Number(row.expires_at) <= nowSeconds())) return undefined;
    const payload: Payload = JSON.parse(String(row.payload));
    return row.consumed_at === null ? payload : { ...payload, consumed: row.consumed_at };
  }

  const adapter = (model: string) => ({
    async upsert(id: string, payload: Payload, expiresIn?: number) {
      const { grantId = null, uid = null, userCode = null } = payload;
      const expiresAt = expiresIn === undefined ? null : nowSeconds() + expiresIn;
      upsert.run(model, id, JSON.stringify(payload), grantId, uid, userCode, expiresAt);
    },
    find: async (id: string) => read(byId.get(model, id)),
    findByUid: async (uid: string) => read(byUid.get(uid, model)),
    findByUserCode: async (userCode: string) => read(byUserCode.get(userCode, model)),
    async consume(id: string) {
      consume.run(nowSeconds(), model, id);
    },
    async destroy(id: string) {
      remove.run(model, id);
    },
    async revokeByGrantId(grantId: string) {
      revoke.run(grantId);
    },
  });
  return { adapter, hasModels: () => count.get()?.count !== 0 };
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1_000);
}

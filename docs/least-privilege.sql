-- Latchkey on PostgreSQL with two users: one owns the tables and makes them, the other reads and writes their rows
-- and can do nothing else. Run it once in a database of Latchkey's own, as a superuser or as the database's owner
-- with CREATEROLE:
--
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname latchkey --file least-privilege.sql
--   psql --dbname latchkey --command '\password latchkey_owner' --command '\password latchkey_app'
--
-- Start Latchkey once with latchkey_owner in DATABASE_URL, for the first tables and after every upgrade; run the
-- instances with latchkey_app. An instance whose tables are missing or behind says so and does not start.

-- As many connections as all instances together may have (DATABASE_POOL_MAX each), and a few to look in.
create role latchkey_app login connection limit 25;
create role latchkey_owner login connection limit 5;
-- Who is no superuser must be a member of a role to make things for it.
grant latchkey_owner to current_user;

-- Nobody else may connect, and nobody may make temporary tables, with which names could be shadowed.
do $$
begin
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to latchkey_owner, latchkey_app', current_database());
end
$$;

-- A schema of its own: what others put into public is not seen.
create schema latchkey authorization latchkey_owner;
grant usage on schema latchkey to latchkey_app;
alter role latchkey_owner set search_path = latchkey;
alter role latchkey_app set search_path = latchkey;

-- Rows of the tables that are there now, and of those that later versions make.
grant select, insert, update, delete on all tables in schema latchkey to latchkey_app;
alter default privileges for role latchkey_owner in schema latchkey
  grant select, insert, update, delete on tables to latchkey_app;

-- Latchkey asks for these limits itself; here they also hold behind a pooler that does not pass them on.
alter role latchkey_app set statement_timeout = '9s';
alter role latchkey_app set lock_timeout = '5s';
alter role latchkey_app set idle_in_transaction_session_timeout = '9s';

revoke latchkey_owner from current_user;

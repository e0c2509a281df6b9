-- Run once, when PostgreSQL makes its data folder. Latchkey owns its database and is no superuser.
\set password `cat /run/latchkey/database_password`
create role latchkey login password :'password';
create database latchkey owner latchkey;

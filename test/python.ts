import { spawnSync } from 'node:child_process';

// Debian's own first: another one, of whoever develops here, has not its packages.
const candidates = ['/usr/bin/python3', 'python3'];

/** Finds a Python with passlib, bcrypt, argon2 and SQLAlchemy, as Debian packages them. */
export function findPython(): string | undefined {
  const found = candidates.find((path) => {
    return spawnSync(path, ['-c', 'import passlib, bcrypt, argon2, sqlalchemy'], { stdio: 'ignore' }).status === 0;
  });
  if (found === undefined && process.env.REQUIRE_PASSLIB === '1') {
    throw new Error('REQUIRE_PASSLIB: there is no Python with python3-passlib, -bcrypt, -argon2 and -sqlalchemy');
  }
  return found;
}

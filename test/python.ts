import { spawnSync } from 'node:child_process';

// Debian's own first: another one, of whoever develops here, has not its packages.
const candidates = ['/usr/bin/python3', 'python3'];

/** Finds a Python with passlib, bcrypt, argon2 and SQLAlchemy, as Debian packages them. */
export function findPython(): string | undefined {
  const found = findPythonWith('passlib, bcrypt, argon2, sqlalchemy');
  if (found === undefined && process.env.REQUIRE_PASSLIB === '1') {
    throw new Error('REQUIRE_PASSLIB: there is no Python with python3-passlib, -bcrypt, -argon2 and -sqlalchemy');
  }
  return found;
}

/** Finds a Python with PyJWT and what it needs for ES256, as Debian packages them. */
export function findPythonWithJwt(): string | undefined {
  const found = findPythonWith('jwt, cryptography');
  if (found === undefined && process.env.REQUIRE_PYJWT === '1') {
    throw new Error('REQUIRE_PYJWT: there is no Python with python3-jwt and python3-cryptography');
  }
  return found;
}

function findPythonWith(modules: string): string | undefined {
  return candidates.find((path) => spawnSync(path, ['-c', `import ${modules}`], { stdio: 'ignore' }).status === 0);
}

/** How new hashes are made: bcrypt at a cost, or argon2id with the parameters below. */
export type HashScheme = { name: 'bcrypt'; cost: number } | { name: 'argon2id' };

/** OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane. */
export const argon2Parameters = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

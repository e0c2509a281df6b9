/** What Firebase calls the password hash parameters of a project. The signer key is a secret of that project. */
export type FirebaseParameters = { signerKey: Buffer; saltSeparator: Buffer; rounds: number; memoryCost: number };

const exportedPattern =
  /^\$firebase-scrypt\$(?<salt>[A-Za-z0-9+/_-]{2,128}={0,2})\$(?<hash>[A-Za-z0-9+/_-]{22,176}={0,2})$/;

/**
 * Reads the parameters as the Firebase console shows them, or as JSON with the same names. Returns undefined where one
 * is missing.
 */
export function readFirebaseParameters(text: string): FirebaseParameters | undefined {
  const find = (name: string) => new RegExp(`\\b${name}"?\\s*:\\s*"?([A-Za-z0-9+/_=-]{1,256})`).exec(text)?.[1];
  const [signerKey, saltSeparator] = [find('base64_signer_key'), find('base64_salt_separator')];
  const [rounds, memoryCost] = [find('rounds'), find('mem_cost')];
  if (signerKey === undefined || saltSeparator === undefined) return undefined;
  if (!/^\d{1,2}$/.test(rounds ?? '') || !/^\d{1,2}$/.test(memoryCost ?? '')) return undefined;
  return {
    signerKey: Buffer.from(signerKey, 'base64'),
    saltSeparator: Buffer.from(saltSeparator, 'base64'),
    rounds: Number(rounds),
    memoryCost: Number(memoryCost),
  };
}

/** Says whether it is a hash from Firebase, `$firebase-scrypt$<salt>$<hash>`, which needs the project's parameters. */
export function isFirebaseExport(text: string): boolean {
  return exportedPattern.test(text);
}

/**
 * Turns a hash from Firebase into one that says everything of itself. Firebase encrypts the signer key under a key made
 * of the password; without the signer key, what is left of that is the keystream, which proves the same password. So
 * nothing of the project's secret is kept.
 */
export function convertFirebaseHash(text: string, parameters: FirebaseParameters): string | undefined {
  const { salt = '', hash = '' } = exportedPattern.exec(text)?.groups ?? {};
  const { signerKey, saltSeparator, rounds, memoryCost } = parameters;
  const ciphertext = Buffer.from(hash, 'base64');
  if (ciphertext.length !== signerKey.length) return undefined;
  const keystream = Buffer.from(ciphertext.map((byte, index) => byte ^ (signerKey[index] ?? 0)));
  const wholeSalt = Buffer.concat([Buffer.from(salt, 'base64'), saltSeparator]);
  return `$firebase-scrypt$ln=${memoryCost},r=${rounds}$${wholeSalt.toString('base64')}$${keystream.toString('base64')}`;
}

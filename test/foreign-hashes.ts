/** A hash that another system made, and the password that it is of. */
export type ForeignVector = { system: string; password: string; hash: string };

const password = 'correct horse';

/**
 * One hash of every spelling that we read. The first group was made with passlib 1.7.4, the second with Django 3.2.25, as
 * Debian has them; the third with Python's hashlib, by the formats that Django 4.0 and Werkzeug 2.3 document and the
 * code of better-auth 1.3. The one of Firebase is in the README of github.com/firebase/scrypt.
 */
export const foreignVectors: readonly ForeignVector[] = [
  { system: 'bcrypt 2b', password, hash: '$2b$05$NW4l.WU7oa.qUTnTSuX3b.qdZ0sjOTop8qCSwVaQ/iB20mBSKXGDm' },
  { system: 'bcrypt 2a', password, hash: '$2a$05$KhFODpaCPOGPWM71hGiBT.n5xGfMR1WLYtT9H5xsBEKc1QBu0KZwm' },
  {
    system: 'bcrypt 2y',
    password: 'gr\u00fc\u00dfe aus K\u00f6ln',
    hash: '$2y$05$Md3G7UI5p0Kp2ACHXWmHqeELnaQ6YfjiuwX.iqo5c6x3fEOsItYKS',
  },
  {
    system: 'passlib bcrypt_sha256 version 2',
    password,
    hash: '$bcrypt-sha256$v=2,t=2b,r=5$3goBFmAugEqi2UNn0bGP0O$2InLfkMt5scFlcv4Z1uTQJ/othLPcwW',
  },
  {
    system: 'passlib bcrypt_sha256 version 2 of more than 72 bytes',
    password: 'x'.repeat(100),
    hash: '$bcrypt-sha256$v=2,t=2b,r=5$tfbf5cbYr9MS6BR2RhXwse$qt3lMft7TvTaI3Chgm1BleRjzB6rx8S',
  },
  {
    system: 'passlib bcrypt_sha256 version 1',
    password,
    hash: '$bcrypt-sha256$2b,5$l2Ml/8uNPW9/ojFMg669Nu$FeNDTc5AYUwblxajmlLwk1tpOB8cICq',
  },
  { system: 'argon2id', password, hash: '$argon2id$v=19$m=1024,t=2,p=2$Pcc455yTMobQmtP6P6c0Zg$0aY12MgNDD3gxkgrlSpj+w' },
  { system: 'argon2i', password, hash: '$argon2i$v=19$m=1024,t=2,p=2$lLJ2TomRslbqHeP8X0sJwQ$fWnfymxmbrBtlCYBJnZv8w' },
  { system: 'argon2d', password, hash: '$argon2d$v=19$m=1024,t=2,p=2$KaW0NuacU8o5R+j9HwMgJA$3FN9h31oYH4vQCKx/3h91w' },
  {
    system: 'scrypt',
    password,
    hash: '$scrypt$ln=12,r=8,p=1$qLXWOgeA0BrDeG/tnZPyfg$oOY38OZpo05OF97cVklarjNO5917VofaiaLeS0tmp1k',
  },
  { system: 'PBKDF2-SHA-1', password, hash: '$pbkdf2$1000$UErpfY.xFqJUSqn1Xotxzg$BsZHETKJKEF.KNwzYC8NI4sSzsg' },
  {
    system: 'PBKDF2-SHA-256',
    password,
    hash: '$pbkdf2-sha256$29000$oXRuLYVQSuk9J0Sode699w$1vp1FN.jQx8Lp4R6uIYFwvZCa28Q2swA4qGoIEXpLb8',
  },
  {
    system: 'PBKDF2-SHA-256 as a PHC string',
    password,
    hash: '$pbkdf2-sha256$i=29000,l=32$oXRuLYVQSuk9J0Sode699w$1vp1FN+jQx8Lp4R6uIYFwvZCa28Q2swA4qGoIEXpLb8',
  },
  {
    system: 'PBKDF2-SHA-512',
    password: 'gr\u00fc\u00dfe aus K\u00f6ln',
    hash: '$pbkdf2-sha512$25000$i3HuPQdgjJFSqvWek5ISwg$xyX7PjStcqDRCe0LlMvrjZg6/UvjWnDy5LCFO6snDNABzaFuRQEMWLXr5yjmt.aWpDV5miodqlHgviByEdKETg',
  },
  {
    system: 'Django PBKDF2-SHA-256',
    password,
    hash: 'pbkdf2_sha256$26000$egDNeMOennu4nFKYihMJ94$nYJhTIvHFHmvQvl1dR4a9PueqmUKmKyNQY2hrv0NtTk=',
  },
  {
    system: 'Django PBKDF2-SHA-1',
    password,
    hash: 'pbkdf2_sha1$26000$Q52spTafjzILb9tFXn48Ds$CNLpyAl8UyB5vzlyRKnH5dW9jdE=',
  },
  {
    system: 'Django argon2',
    password,
    hash: 'argon2$argon2id$v=19$m=1024,t=2,p=2$dnpYTUoxSFg4dVlLQVNvT1RNaTV5QQ$vCX1Hy+3mi11iEIsqDyivA',
  },
  {
    system: 'Django bcrypt_sha256',
    password,
    hash: 'bcrypt_sha256$$2b$05$QOJ2iQf9tyQLGho1MgNXouR5PaefJIVDNOQielKPIbpryNr5RqAgC',
  },
  {
    system: 'Django bcrypt',
    password,
    hash: 'bcrypt$$2b$05$yDStGfHHYo7ctyuDXOMXp.cTCz/6rm2S7AFMRneM.Onxlcq2ImL4C',
  },
  {
    system: 'Django scrypt',
    password,
    hash: 'scrypt$4096$seasalt8chars$8$1$p19OkI6hr/TvnIPZmlQlM46FHtWG6wa3ZvgUvqXOK5SY7LeUDA2pqjBuS8UgTvdiBPrNQuRlw/Xypg5ohpD7Dw==',
  },
  {
    system: 'Werkzeug scrypt',
    password,
    hash: 'scrypt:4096:8:1$Kx3vQp7sT1mZc9Lw$b21b675ba737a6e5ae80b17537ee5c27d8b4b38bdfcdb5febab63d580d138bc07d1185ad62e9a39d6dfb959eeb9e66524907e5d8fba3fcba873a0987b4e3face',
  },
  {
    system: 'Werkzeug PBKDF2',
    password,
    hash: 'pbkdf2:sha256:50000$Kx3vQp7sT1mZc9Lw$621bdaa0682f0f64efc1b53e0d3aac02252ae066d723dffd1f9d95b4179ba388',
  },
  {
    system: 'better-auth',
    // It normalizes to NFKC: the ligature is what was typed, and what is hashed is "ffice".
    password: '\ufb03ce caf\u00e9',
    hash: '1c50892c354da5b23ec3b5007649bc6e:2dec5bc561fdfecd4d092316fe83466f5f2dc4f4a7dde87b72dd10c7bfb5e4693e6addb3c53d31390fec9cffde5aff826aa0cce7ab2808f067df5766611cdd63',
  },
];

/** The parameters of the project whose hash is published, as the console shows them. */
export const firebaseParameters = `hash_config {
  algorithm: SCRYPT,
  base64_signer_key: jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==,
  base64_salt_separator: Bw==,
  rounds: 8,
  mem_cost: 14,
}`;

/** The published hash, in the spelling of an import. */
export const firebaseVector: ForeignVector = {
  system: 'Firebase',
  password: 'user1password',
  hash: '$firebase-scrypt$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==',
};

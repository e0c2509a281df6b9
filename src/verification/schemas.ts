import type { Static } from 'typebox';
import { emailMaxLength } from '../email-address.ts';
import { Type } from '../json-schema.ts';
import type { SentCode } from './flow.ts';
import { verificationPurposes } from './purposes.ts';
import { verificationTokenMaxLength } from './tokens.ts';

/** An address as a caller may type it. */
export const emailField = Type.String({
  minLength: 3,
  maxLength: emailMaxLength,
  description:
    'An e-mail address, at most 254 characters. The local part is ASCII without quotes; ASCII letters are lowered; an international domain is written in lower case or in A-labels.',
  examples: ['ada@example.com'],
});

/** A verification token for examples: well formed, and of nothing. */
export const exampleVerificationToken = 'gT4Zl0nXc2pQ8rS6uV1wYA.Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgcmVhbCB0b2tlbg';

/** The proof that POST /auth/verify-code gives. */
export const verificationTokenField = Type.String({
  minLength: 1,
  maxLength: verificationTokenMaxLength,
  description: 'From `POST /auth/verify-code`. Works once, for ten minutes, for the purpose of its code.',
  examples: [exampleVerificationToken],
});

export const sendCodeBodySchema = Type.Object(
  {
    email: emailField,
    purpose: Type.Enum(['registration', 'login', 'password_reset'], {
      description: 'What the code will be good for, and nothing else.',
    }),
  },
  { additionalProperties: false, examples: [{ email: 'ada@example.com', purpose: 'registration' }] },
);

export const sendCodeResponseSchema = Type.Object(
  {
    expires_in: Type.Integer({ description: 'Seconds for which the code works.' }),
    resend_after: Type.Integer({ description: 'Seconds until another code can be asked for.' }),
  },
  {
    additionalProperties: false,
    description: 'The same whether the address has an account or not.',
    examples: [{ expires_in: 300, resend_after: 60 }],
  },
);

export const verifyCodeBodySchema = Type.Object(
  {
    email: emailField,
    purpose: Type.Enum([...verificationPurposes], { description: 'The purpose that the code was sent for.' }),
    code: Type.String({
      minLength: 1,
      maxLength: 32,
      description:
        'The six characters from the mail. Case, spaces and hyphens do not matter; O is read as 0, I and L as 1.',
    }),
  },
  { additionalProperties: false, examples: [{ email: 'ada@example.com', purpose: 'registration', code: '7K3-QZ9' }] },
);

export const verifyCodeResponseSchema = Type.Object(
  {
    verification_token: Type.String({ description: 'Proves the address once, for the purpose of the code.' }),
    expires_in: Type.Integer({ description: 'Seconds for which the token works.' }),
  },
  {
    additionalProperties: false,
    description: 'The code was right and is used up.',
    examples: [{ verification_token: exampleVerificationToken, expires_in: 600 }],
  },
);

/** Maps a sent code to its JSON form. */
export function toSendCodeResponse(sent: SentCode): Static<typeof sendCodeResponseSchema> {
  return { expires_in: sent.expiresInSeconds, resend_after: sent.resendAfterSeconds };
}

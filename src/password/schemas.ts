import { passwordMaxLength } from '../crypto/password-policy.ts';
import { Type } from '../json-schema.ts';
import { exampleVerificationToken, verificationTokenField } from '../verification/schemas.ts';

/** A password that is checked: any text up to the limit, which keeps length from being an attack. */
export const passwordField = Type.String({
  minLength: 1,
  maxLength: passwordMaxLength,
  description: 'At most 256 characters.',
  examples: ['correct horse battery staple'],
});

/** A password that is chosen. */
export const newPasswordField = Type.String({
  minLength: 1,
  maxLength: passwordMaxLength,
  description:
    'At least `PASSWORD_MIN_LENGTH` (8 by default) and at most 256 characters after NFKC; not a common password, not built from the address. No rules about symbols.',
  examples: ['correct horse battery staple'],
});

export const changePasswordBodySchema = Type.Object(
  { current_password: passwordField, new_password: newPasswordField },
  {
    additionalProperties: false,
    examples: [{ current_password: 'correct horse battery staple', new_password: 'quiet lantern over the harbour' }],
  },
);

export const resetPasswordBodySchema = Type.Object(
  { verification_token: verificationTokenField, new_password: newPasswordField },
  {
    additionalProperties: false,
    examples: [
      {
        verification_token: exampleVerificationToken,
        new_password: 'quiet lantern over the harbour',
      },
    ],
  },
);

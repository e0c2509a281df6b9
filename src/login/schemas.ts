import { Type } from '../json-schema.ts';
import { passwordField } from '../password/schemas.ts';
import { emailField, exampleVerificationToken, verificationTokenField } from '../verification/schemas.ts';

export const loginBodySchema = Type.Object(
  { email: emailField, password: passwordField },
  {
    additionalProperties: false,
    examples: [{ email: 'ada@example.com', password: 'correct horse battery staple' }],
  },
);

export const codeLoginBodySchema = Type.Object(
  { verification_token: verificationTokenField },
  {
    additionalProperties: false,
    examples: [{ verification_token: exampleVerificationToken }],
  },
);

export const reauthenticateBodySchema = Type.Object(
  { password: Type.Optional(passwordField), verification_token: Type.Optional(verificationTokenField) },
  {
    additionalProperties: false,
    minProperties: 1,
    maxProperties: 1,
    description: 'The password, or an address proved for `login`: exactly one of the two.',
    examples: [{ password: 'correct horse battery staple' }],
  },
);

import { profileFields } from '../account/schemas.ts';
import { Type } from '../json-schema.ts';
import { newPasswordField } from '../password/schemas.ts';
import { exampleVerificationToken, verificationTokenField } from '../verification/schemas.ts';

export const registerBodySchema = Type.Object(
  { verification_token: verificationTokenField, password: newPasswordField, ...profileFields },
  {
    additionalProperties: false,
    examples: [
      {
        verification_token: exampleVerificationToken,
        password: 'correct horse battery staple',
        name: 'Ada Lovelace',
      },
    ],
  },
);

import { Type } from 'typebox';
import { profileFields } from '../account/schemas.ts';
import { newPasswordField } from '../password/schemas.ts';
import { verificationTokenField } from '../verification/schemas.ts';

export const registerBodySchema = Type.Object(
  { verification_token: verificationTokenField, password: newPasswordField, ...profileFields },
  {
    additionalProperties: false,
    examples: [
      {
        verification_token: 'gT4Zl0nXc2pQ8rS6uV1wYA.Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgcmVhbCB0b2tlbg',
        password: 'correct horse battery staple',
        name: 'Ada Lovelace',
      },
    ],
  },
);

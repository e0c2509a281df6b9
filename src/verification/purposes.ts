/** What an address can be proved for. A proof for one purpose is worth nothing for another. */
export const verificationPurposes = ['registration', 'login', 'password_reset', 'email_change'] as const;
export type VerificationPurpose = (typeof verificationPurposes)[number];
export type RequestablePurpose = Exclude<VerificationPurpose, 'email_change'>;

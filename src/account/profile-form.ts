/** Characters of a name at most. */
export const nameMaxLength = 200;

/** Characters of a language tag at most. */
export const localeMaxLength = 35;

/**
 * The form of a name. It ends up in mail, logs and terminals: no control characters, no line separators, nothing that
 * turns the direction of the text around it, and something that can be seen.
 */
export const namePattern = '^(?=.*[\\p{L}\\p{N}\\p{P}\\p{S}])[^\\p{Cc}\\u2028\\u2029\\p{Bidi_Control}]+$';

/** The form of a language tag (BCP 47). */
export const localePattern = '^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*$';

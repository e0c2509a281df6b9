import { english } from './languages/en.ts';
import { type MessageContent, type RenderedMessage, renderMessage } from './layout.ts';

/** Every message that the service sends, with what each needs to be written. */
export type Message =
  | { kind: 'code'; purpose: CodePurpose; code: string; expiresInMinutes: number }
  | { kind: 'already_registered' }
  | { kind: 'address_in_use' }
  | { kind: 'password_changed' }
  | { kind: 'password_reset' }
  | { kind: 'email_changed' }
  | { kind: 'new_sign_in'; device: string | null; clientAddress: string; time: string }
  | { kind: 'session_ended_for_reuse' };

/** What a code proves the address for. */
export type CodePurpose = 'registration' | 'login' | 'password_reset' | 'email_change';

/** How mail names the service: what it is called, and the one link that a mail may hold. */
export type ServiceIdentity = { name: string; url: string; subjectTemplate: string };

/** One language: one file that writes every message. */
export type Language = {
  write(message: Message, serviceUrl: string): MessageContent;
  footer(serviceUrl: string): string;
};

const languages: Readonly<Record<string, Language>> = { en: english };
const defaultLanguage = 'en';

/** Writes a message in the language of the locale, or in English where there is none. */
export function composeMessage(message: Message, locale: string | null, serviceUrl: string): RenderedMessage {
  const code = findLanguageCode(locale);
  const language = languages[code] ?? english;
  return renderMessage(language.write(message, serviceUrl), language.footer(serviceUrl), code);
}

function findLanguageCode(locale: string | null): string {
  const code = locale?.split('-')[0]?.toLowerCase() ?? defaultLanguage;
  return Object.hasOwn(languages, code) ? code : defaultLanguage;
}

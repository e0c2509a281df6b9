import { english } from './languages/en.ts';
import { type MessageContent, type RenderedMessage, renderMessage } from './layout.ts';

/** Every message that the service sends, with what each needs to be written. */
export type Message =
  | { kind: 'code'; purpose: CodePurpose; code: string; expiresInMinutes: number }
  /** Without a code where the operator invites, whose process does not live as long as one. */
  | { kind: 'invitation'; code: { code: string; expiresInMinutes: number } | undefined }
  | { kind: 'already_registered' }
  | { kind: 'address_in_use' }
  | { kind: 'password_changed' }
  | { kind: 'password_reset' }
  | { kind: 'email_changed' }
  | { kind: 'new_sign_in'; device: string | null; clientAddress: string; time: string }
  | { kind: 'session_ended_for_reuse' };

/** What a code proves the address for. */
export type CodePurpose = 'registration' | 'login' | 'password_reset' | 'email_change';

/** How mail presents the service. */
export type MailStyle = {
  /** The one link that a mail may hold. */
  serviceUrl: string;
  /** The operator's form of every subject, with `{subject}` where the message's own goes. */
  subjectTemplate: string;
};

/** One language: one file that writes every message. */
export type Language = {
  write(message: Message, serviceUrl: string): MessageContent;
  footer(serviceUrl: string): string;
};

const languages: Readonly<Record<string, Language>> = { en: english };
const defaultLanguage = 'en';

/** Writes a message in the language of the locale, or in English where there is none. */
export function composeMessage(message: Message, locale: string | null, style: MailStyle): RenderedMessage {
  const code = findLanguageCode(locale);
  const language = languages[code] ?? english;
  const content = language.write(message, style.serviceUrl);
  // A function, because "$&" in a subject would mean something in a replacement text.
  const subject = style.subjectTemplate.replace('{subject}', () => content.subject);
  return renderMessage({ ...content, subject }, language.footer(style.serviceUrl), code);
}

function findLanguageCode(locale: string | null): string {
  const code = locale?.split('-')[0]?.toLowerCase() ?? defaultLanguage;
  return Object.hasOwn(languages, code) ? code : defaultLanguage;
}

import { type AppError, type ErrorCode, errorCatalogue } from '../errors.ts';

// What the catalogue says to a caller of the API, said to somebody at the command line.
const sentences: Partial<Record<ErrorCode, string>> = {
  account_exists: 'There is a user with this address already.',
  not_found: 'There is no such user.',
  last_administrator: 'This is the last administrator who can log in. Make another one first: latchkey create-admin',
  address_not_proved:
    'This user was invited and has not registered yet, so there is nothing to disable or enable. To take the invitation back: latchkey users delete',
  temporarily_unavailable: 'The service cannot do this now: a part of it does not answer. See: latchkey doctor',
};

/** Says in a sentence why a flow refused. */
export function explainRefusal({ code, detail, errors }: AppError): string {
  const fields = errors?.map(({ path, message }) => `${path.replace(/^\//, '').replaceAll('/', ' ')} ${message}.`);
  if (code === 'validation_failed' && fields !== undefined) return capital(fields.join(' '));
  return sentences[code] ?? [`${errorCatalogue[code].title}.`, detail, ...(fields ?? [])].filter(Boolean).join(' ');
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

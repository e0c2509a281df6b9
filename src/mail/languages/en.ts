import type { MessageContent } from '../layout.ts';
import type { CodePurpose, Language, Message } from '../messages.ts';

const purposes: Readonly<Record<CodePurpose, { subject: string; sentence: string }>> = {
  registration: { subject: 'to create your account', sentence: 'Use this code to create your account:' },
  login: { subject: 'to log in', sentence: 'Use this code to log in:' },
  password_reset: { subject: 'to reset your password', sentence: 'Use this code to choose a new password:' },
  email_change: {
    subject: 'to confirm your new address',
    sentence: 'Use this code to confirm your new e-mail address:',
  },
};

/** English, the language of every user whose own is not here. */
export const english: Language = { write, footer };

function write(message: Message, serviceUrl: string): MessageContent {
  switch (message.kind) {
    case 'code':
      return {
        subject: `${message.code} is your code ${purposes[message.purpose].subject}`,
        opening: [purposes[message.purpose].sentence],
        code: message.code,
        closing: [
          `It works once and for ${message.expiresInMinutes} minutes. Type it only where you asked for it: nobody from the service will ever ask you for it.`,
          'If you did not ask for a code, you can ignore this message. Nothing was changed.',
        ],
      };
    case 'invitation': {
      const closing = [
        `${message.code === undefined ? 'Ask for a code' : 'If it no longer works, ask for a new code'} to create your account with this address: the invitation stays.`,
        'If you do not know what this is about, you can ignore this message.',
      ];
      const opening = [`You are invited to ${serviceUrl} and an account with this address is waiting for you.`];
      if (message.code === undefined) return { subject: 'You are invited', opening, closing };
      const { code, expiresInMinutes } = message.code;
      return {
        subject: `${code} is your code to accept an invitation`,
        opening: [...opening, 'Use this code to create your account:'],
        code,
        closing: [`It works once and for ${expiresInMinutes} minutes.`, ...closing],
      };
    }
    case 'already_registered':
      return {
        subject: 'You already have an account',
        opening: [
          `Somebody, probably you, tried to create an account at ${serviceUrl} with this address. It has one already.`,
        ],
        closing: [
          'Log in instead, with your password or with an e-mailed code. If it was not you, you can ignore this message. Nothing was changed.',
        ],
      };
    case 'address_in_use':
      return {
        subject: 'Somebody tried to use your address',
        opening: [
          `Somebody tried to move another account at ${serviceUrl} to this address. It belongs to your account, so nothing was changed.`,
        ],
        closing: ['If it was you, log in to the account that has this address, or delete that one first.'],
      };
    case 'password_changed':
      return {
        subject: 'Your password was changed',
        opening: [`The password of your account at ${serviceUrl} was changed, and all your other sessions were ended.`],
        closing: ['If it was not you, reset your password now with an e-mailed code.'],
      };
    case 'password_reset':
      return {
        subject: 'Your password was reset',
        opening: [
          `The password of your account at ${serviceUrl} was reset with an e-mailed code, and all your sessions were ended.`,
        ],
        closing: [
          'If it was not you, somebody can read your mail: change the password of your mailbox, then this one.',
        ],
      };
    case 'email_changed':
      return {
        subject: 'Your e-mail address was changed',
        opening: [
          `Your account at ${serviceUrl} has a new e-mail address. You can no longer log in with this one, and no more mail about the account goes here.`,
        ],
        closing: ['If it was not you, tell the people who run the service now.'],
      };
    case 'new_sign_in':
      return {
        subject: 'New login to your account',
        opening: [
          `Somebody logged in to your account at ${serviceUrl} from a device or network that we had not seen with it before.`,
          `Device: ${message.device ?? 'unknown'}. Address: ${message.clientAddress}. Time: ${message.time}.`,
        ],
        closing: ['If it was not you, change your password: that ends all other sessions.'],
      };
    case 'session_ended_for_reuse':
      return {
        subject: 'We ended one of your sessions',
        opening: [
          `Somebody used an old login token of your account at ${serviceUrl} a second time. That can mean that it was copied, so we ended the session that it belonged to.`,
        ],
        closing: [
          'Log in again where you need to. If you see devices or changes that are not yours, change your password.',
        ],
      };
  }
}

function footer(serviceUrl: string): string {
  return `Sent by ${serviceUrl} because this address was given there.`;
}

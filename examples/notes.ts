import { randomUUID } from 'node:crypto';

/** A note of a user. */
type Note = { id: string; text: string; created_at: string };

/** Notes in memory, which is all that an example needs; they are gone when it stops. */
export type Notes = {
  list(userId: string): readonly Note[];
  /** Returns undefined when the user has as many as there may be. */
  add(userId: string, text: string): Note | undefined;
  remove(userId: string, id: string): boolean;
  removeAll(userId: string): void;
  countByUser(): { user_id: string; notes: number }[];
};

const notesPerUserMax = 100;
const usersMax = 1_000;

/** Makes an empty store. Every function asks for the user first, so none can reach what is another's. */
export function createNotes(): Notes {
  const notesOf = new Map<string, Note[]>();
  return {
    list: (userId) => notesOf.get(userId) ?? [],
    add(userId, text) {
      const notes = notesOf.get(userId) ?? [];
      if (notes.length >= notesPerUserMax || (notes.length === 0 && notesOf.size >= usersMax)) return undefined;
      const note = { id: randomUUID(), text, created_at: new Date().toISOString() };
      notesOf.set(userId, [note, ...notes]);
      return note;
    },
    remove(userId, id) {
      const notes = notesOf.get(userId) ?? [];
      const left = notes.filter((note) => note.id !== id);
      if (left.length === 0) notesOf.delete(userId);
      else notesOf.set(userId, left);
      return left.length < notes.length;
    },
    removeAll: (userId) => void notesOf.delete(userId),
    countByUser: () => [...notesOf].map(([user_id, notes]) => ({ user_id, notes: notes.length })),
  };
}

/** Says why a test that takes long is left out; false where `FAULTS=all` asks for everything. */
export const reasonToSkipLong: string | false = process.env.FAULTS !== 'all' && 'takes long; FAULTS=all runs it';

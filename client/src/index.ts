export type * from './api-types.ts';
export { type ClientOptions, createClient, type LatchkeyClient, type RequestName } from './client.ts';
export type { CallOptions } from './deadline.ts';
export { type ClientErrorCode, isLatchkeyError, LatchkeyError } from './latchkey-error.ts';
export type { BodyOf, ErrorCodeOf, InputOf, OperationName, QueryOf, ResultOf } from './operation.ts';
export type { SignedOutReason } from './tabs.ts';
export { localStorageTokens, memoryTokens, type StoredTokens, type TokenStorage } from './token-storage.ts';

import { renderOpenApi } from '../src/cli/openapi.ts';

/** The address that stands for the reader's own in every generated document. */
export const exampleUrl = 'https://auth.example.com';

/** Renders openapi.json. */
export function renderOpenApiDocument(): Promise<string> {
  return renderOpenApi(exampleUrl);
}

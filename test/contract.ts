import assert from 'node:assert/strict';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { OpenAPIV3_1 } from 'openapi-types';
import type { System } from './system.ts';

type Exchange = {
  method: string;
  path: string;
  requestBody: unknown;
  status: number;
  contentType: string | undefined;
  responseBody: string;
};
type Checker = (exchange: Exchange) => void;

// Pages for people and what serves them; they are no part of the API.
const undocumentedPaths = /^\/(?:docs|dev|openapi\.json)/;
const checkers = new WeakMap<System['app'], Checker>();

/** Fails when a reply, or a request that was accepted, is not what the OpenAPI document says. */
export function checkContract(system: System, exchange: Exchange): void {
  let checker = checkers.get(system.app);
  if (checker === undefined) {
    checker = createChecker(system.app.swagger() as OpenAPIV3_1.Document);
    checkers.set(system.app, checker);
  }
  checker(exchange);
}

function createChecker(document: OpenAPIV3_1.Document): Checker {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv as never);
  ajv.addSchema({ ...document, $id: 'openapi' });
  const compiled = new Map<string, ValidateFunction>();

  function validate(pointer: string, value: unknown, what: string): void {
    let check = compiled.get(pointer);
    if (check === undefined) {
      check = ajv.compile({ $ref: `openapi#${pointer}` });
      compiled.set(pointer, check);
    }
    assert.ok(check(value), `${what} does not match the OpenAPI document: ${ajv.errorsText(check.errors)}`);
  }

  return (exchange) => {
    const path = new URL(exchange.path, 'http://localhost').pathname;
    const template = findTemplate(document, path);
    const method = exchange.method.toLowerCase();
    const operation = template === undefined ? undefined : document.paths?.[template]?.[method as 'get'];
    const label = `${exchange.method} ${path} ${exchange.status}`;
    if (template === undefined || operation === undefined) {
      const isExpected = undocumentedPaths.test(path) || exchange.status === 404 || exchange.status === 405;
      assert.ok(isExpected, `${label}: the OpenAPI document does not have this operation`);
      return;
    }
    const base = `/paths/${escapeStep(template)}/${method}`;
    if (exchange.status < 300 && operation.requestBody !== undefined && exchange.requestBody !== undefined) {
      const pointer = `${base}/requestBody/content/${escapeStep('application/json')}/schema`;
      validate(pointer, exchange.requestBody, `${label}: the accepted request body`);
    }
    const response = operation.responses?.[exchange.status] as OpenAPIV3_1.ResponseObject | undefined;
    assert.ok(response, `${label}: the OpenAPI document does not have this status`);
    if (response.content === undefined) {
      assert.equal(exchange.responseBody, '', `${label}: the document says that there is no body`);
      return;
    }
    const mediaType = exchange.contentType?.split(';')[0] ?? '';
    assert.ok(response.content[mediaType], `${label}: the document does not have the content type ${mediaType}`);
    const pointer = `${base}/responses/${exchange.status}/content/${escapeStep(mediaType)}/schema`;
    const value = /json$/.test(mediaType) ? JSON.parse(exchange.responseBody) : exchange.responseBody;
    validate(pointer, value, `${label}: the response body`);
  };
}

function findTemplate(document: OpenAPIV3_1.Document, path: string): string | undefined {
  const templates = Object.keys(document.paths ?? {});
  const matches = (template: string) => new RegExp(`^${template.replace(/\{[^}]+\}/g, '[^/]+')}$`).test(path);
  return templates.find((template) => template === path) ?? templates.find(matches);
}

function escapeStep(step: string): string {
  return encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'));
}

// What the server is asked.

import { PageError } from "./errors.js";

/**
 * Ask the server something.
 * @param {"POST" | "PATCH"} method
 * @param {string} path
 * @param {object} body
 * @returns {Promise<any>} the answer's JSON
 * @throws {PageError} without `status` when there was no answer
 */
export async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(15_000),
    });
  } catch (cause) {
    throw new PageError("The server does not answer. Check that it is running, then try again.", { cause });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new PageError(answer.detail ?? `The server refused the call (status ${response.status}).`);
  error.status = response.status;
  throw error;
}

// What the page asks the server over HTTP, and the key it needs for it.

import { PageError } from "./errors.js";

const REMEMBERED = "talkpath.key";
const ANSWER_WITHIN_MS = 15_000;

export const NO_ANSWER = "The server does not answer. Check that it is running, then try again.";

let current = "";
try {
  current = sessionStorage.getItem(REMEMBERED) ?? "";
} catch {
  // Storage is switched off: the key lasts as long as the page.
}

export function key() {
  return current;
}

/** @param {string} next "" for none */
export function useKey(next) {
  current = next;
  try {
    if (next) sessionStorage.setItem(REMEMBERED, next);
    else sessionStorage.removeItem(REMEMBERED);
  } catch {
    // As above.
  }
}

/** @param {string} path below the page's own address */
export function address(path) {
  return new URL(path, document.baseURI);
}

/**
 * Ask something of the server, with the key.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} with a status of success
 * @throws {PageError} without `status` when there was no answer
 */
export async function ask(path, options = {}) {
  // No key has other characters, and no header takes them.
  if (/[^!-~]/.test(current)) throw unknownKey();
  let response;
  try {
    response = await fetch(address(path), {
      cache: "no-store",
      ...options,
      headers: current ? { Authorization: `Bearer ${current}` } : {},
    });
  } catch (cause) {
    if (options.signal?.aborted && options.signal.reason?.name !== "TimeoutError") throw cause;
    throw new PageError(NO_ANSWER, { cause });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) throw unknownKey();
  const why = answer.error?.message ?? `The server refused the request (status ${response.status})`;
  const error = new PageError(asSentence(why));
  error.status = response.status;
  throw error;
}

function unknownKey() {
  const error = new PageError(current ? "The server does not know this key." : "This server wants a key.");
  error.status = 401;
  return error;
}

/**
 * Find out whether the server lets this page in.
 * @returns {Promise<string>} the name of its model
 * @throws {PageError} of status 401 where the key is missing or wrong
 */
export async function model() {
  const response = await ask("v1/models", { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  const answer = await response.json().catch(() => ({}));
  return answer.data?.[0]?.id ?? "";
}

/** @param {string} text of the server's, which may begin small and end without a full stop */
export function asSentence(text) {
  // A file's name or a setting's at the beginning stays as it is.
  const sentence = text.replace(/^[a-z]+(?=[\s,:])/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

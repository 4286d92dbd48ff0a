// Errors whose message is a sentence for the person at the page.

export class PageError extends Error {
  /** @type {number | undefined} HTTP status, when the server refused */
  status;
  /** Whether a connection that stood was lost. */
  lost = false;
}

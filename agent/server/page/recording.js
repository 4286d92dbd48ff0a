// A recording, sent as a whole; its words come back while they are found.

import { PageError } from "./errors.js";
import { ask, asSentence } from "./server.js";

/**
 * @param {File} file
 * @param {{model: string, language: string, signal: AbortSignal}} options
 * @param {(delta: string) => void} onDelta
 * @returns {Promise<{text: string, warning?: string}>} all of it, and what could not be read
 * @throws {PageError}
 */
export async function transcribe(file, { model, language, signal }, onDelta) {
  const form = new FormData();
  form.append("file", file);
  form.append("model", model || "whisper-1");
  form.append("response_format", "json");
  form.append("stream", "true");
  if (language !== "auto") form.append("language", language);
  const response = await ask("v1/audio/transcriptions", { method: "POST", body: form, signal });
  for await (const event of events(response)) {
    if (event.type === "transcript.text.delta") onDelta(event.delta);
    if (event.type === "transcript.text.done") return event;
    if (event.error) throw new PageError(asSentence(event.error.message ?? String(event.error)));
  }
  throw new PageError("The server ended its answer before the recording was written down.");
}

/**
 * The answer's server-sent events.
 * @param {Response} response
 * @returns {AsyncGenerator<any>}
 */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((cause) => {
      if (cause.name === "AbortError") throw cause;
      throw new PageError("The connection was lost before the recording was written down.", { cause });
    });
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

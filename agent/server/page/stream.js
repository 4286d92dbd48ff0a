// One stream of speech to the server, in the Baseten protocol.

import { PageError } from "./errors.js";
import { NO_ANSWER, address, asSentence, key, model } from "./server.js";

const OPEN_WITHIN_MS = 15_000;
const FINISH_WITHIN_MS = 30_000;
// A connection that broke without a word is found out by what it does not answer. What is asked
// waits behind ten seconds of sound at most.
const ASK_EVERY_MS = 5_000;
const LOST_AFTER_MS = 20_000;
const MOST_WAITING_BYTES = 10 * 32_000; // ten seconds of sound

/**
 * @typedef {object} Transcription
 * @property {boolean} is_final
 * @property {number} transcription_num
 * @property {{start_time: number, end_time: number, text: string, possible_hallucination: boolean,
 *             word_timestamps: {word: string, prob: number | null}[]}[]} segments
 * @property {string | null} language_code
 * @property {number | null} pipeline_latency
 * @property {number} audio_length_sec
 */

/**
 * The configuration of a stream.
 * @param {{language: string, partials: boolean, interval_s: number, silence_ms: number, doubts: boolean}} settings
 */
export function configuration({ language, partials, interval_s, silence_ms, doubts }) {
  return {
    whisper_params: { audio_language: language, show_word_timestamps: doubts },
    streaming_params: {
      encoding: "pcm_s16le",
      sample_rate: 16_000,
      enable_partial_transcripts: partials,
      partial_transcript_interval_s: interval_s,
      include_pipeline_latency_metric: true,
    },
    streaming_vad_config: { min_silence_duration_ms: silence_ms, speech_pad_ms: 30 },
  };
}

export class Stream {
  #socket;
  #opened = false;
  #over = false;
  #onEnd;
  #onText;
  #onError;
  #asking = 0;
  #heard_ms = 0; // when the server last said anything
  #said = ""; // the server's latest error
  #finished = () => {};

  /**
   * @param {{onText: (transcription: Transcription) => void, onError: (sentence: string) => void,
   *          onEnd: (error: PageError | null) => void}} listeners `onEnd` comes once, for an end
   *          that the page did not ask for
   */
  constructor({ onText, onError, onEnd }) {
    this.#onText = onText;
    this.#onError = onError;
    this.#onEnd = onEnd;
    const url = address("websocket");
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = key() ? ["talkpath", `openai-insecure-api-key.${key()}`] : [];
    try {
      this.#socket = new WebSocket(url, protocols);
    } catch (cause) {
      throw new PageError("A browser cannot send a key with such characters.", { cause });
    }
  }

  /**
   * Wait for the server, then tell it what is wanted.
   * @param {object} wanted the configuration
   * @throws {PageError}
   */
  async open(wanted) {
    const socket = this.#socket;
    socket.binaryType = "arraybuffer";
    const close = await new Promise((resolve) => {
      socket.onopen = () => resolve(null);
      socket.onclose = resolve;
      window.setTimeout(resolve, OPEN_WITHIN_MS, {});
    });
    if (this.#over) return;
    if (close) {
      this.close();
      throw await refusal(close);
    }
    this.#opened = true;
    socket.onmessage = ({ data }) => {
      this.#heard_ms = performance.now();
      this.#receive(JSON.parse(data));
    };
    socket.onclose = (event) => this.#closed(event);
    socket.send(JSON.stringify(wanted));
    this.#heard_ms = performance.now();
    this.#asking = window.setInterval(() => this.#ask(), ASK_EVERY_MS);
  }

  /** @param {ArrayBuffer} pcm */
  send(pcm) {
    if (!this.#opened || this.#over) return;
    if (this.#socket.bufferedAmount > MOST_WAITING_BYTES) {
      this.#end(new PageError("The connection is too slow for live speech."));
      return;
    }
    this.#socket.send(pcm);
  }

  /** No more sound comes: wait for the words that are due. */
  async finish() {
    if (this.#over || !this.#opened) return this.close();
    const all = new Promise((resolve) => {
      this.#finished = () => resolve(true);
      window.setTimeout(resolve, FINISH_WITHIN_MS, false);
    });
    this.#socket.send(JSON.stringify({ type: "end_audio" }));
    const complete = await all;
    this.close();
    if (!complete) throw new PageError("The server did not send the last words.");
  }

  /** End at once. */
  close() {
    this.#over = true;
    window.clearInterval(this.#asking);
    this.#finished();
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #ask() {
    if (performance.now() - this.#heard_ms > LOST_AFTER_MS) {
      this.#lost("The server does not answer any more.");
    } else {
      this.#socket.send(JSON.stringify({ type: "health_check" }));
    }
  }

  /** @param {any} message */
  #receive(message) {
    switch (message.type) {
      case "transcription":
        this.#onText(message);
        break;
      case "end_audio":
        if (message.body?.status === "finished") this.#finished();
        break;
      case "error":
        this.#said = asSentence(message.body?.error ?? message.message ?? "The server reports an error");
        // If it closes the connection too, that is what is told.
        window.setTimeout(() => this.#over || this.#onError(this.#said), 250);
        break;
    }
  }

  /** @param {CloseEvent} event */
  async #closed({ code, reason }) {
    // A reason is cut at 123 bytes; the error before it has all of it.
    const whole = this.#said.toLowerCase().startsWith(reason.toLowerCase());
    const told = whole ? this.#said : asSentence(reason);
    if (code === 1000) return this.#end(null);
    if (code !== 1006 && told) return this.#end(new PageError(told));
    // Nothing was said: did the server go, or only the connection?
    this.#over = true;
    window.clearInterval(this.#asking);
    this.#lost(await model().then(() => "", ({ message }) => message));
  }

  /** @param {string} why */
  #lost(why) {
    const error = new PageError(`The connection was lost. ${why}`.trim());
    error.lost = true;
    this.#end(error);
  }

  /** @param {PageError | null} error */
  #end(error) {
    this.close();
    this.#onEnd(error);
  }
}

/**
 * Why a socket did not open: browsers do not say, but other requests are answered.
 * @param {{code?: number, reason?: string}} close
 */
async function refusal({ code, reason }) {
  if (reason) return new PageError(asSentence(reason));
  try {
    await model();
  } catch (error) {
    return error;
  }
  return new PageError(
    code ? "The server lets nobody in at the moment; its places may be taken. Try again in a while." : NO_ANSWER,
  );
}

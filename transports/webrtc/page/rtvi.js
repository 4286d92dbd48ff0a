// RTVI, the messages between a bot and its client: the handshake and the sorting.

import { PageError } from "./errors.js";
import { Peer } from "./peer.js";

const LABEL = "rtvi-ai";
const VERSION = "2.2.0";
const READY_WITHIN_MS = 30_000;

/**
 * @typedef {object} SessionEvents
 * @property {(track: MediaStreamTrack) => void} onTrack
 * @property {(state: "connecting" | "connected" | "reconnecting") => void} onState
 * @property {(type: string, data: any) => void} onMessage an RTVI message
 * @property {(error: PageError | null) => void} onEnd null when the bot hung up
 */

export class Session {
  #peer;
  #events;
  #waiting = 0;

  /**
   * @param {MediaStreamTrack} microphone
   * @param {SessionEvents} events
   */
  constructor(microphone, events) {
    this.#events = events;
    this.#peer = new Peer(microphone, {
      onTrack: events.onTrack,
      onOpen: () => this.#greet(),
      onMessage: (message) => this.#receive(message),
      onRestarting: () => events.onState("reconnecting"),
      onEnd: (error) => {
        window.clearTimeout(this.#waiting);
        events.onEnd(error);
      },
    });
  }

  async connect() {
    this.#events.onState("connecting");
    await this.#peer.connect();
  }

  /** @param {boolean} muted */
  tellMuted(muted) {
    this.#peer.send({
      type: "signalling",
      message: { type: "trackStatus", receiver_index: 0, enabled: !muted },
    });
  }

  /**
   * @param {string} key of a telephone
   * @returns {boolean} whether it was sent
   */
  press(key) {
    return this.#peer.send({ label: LABEL, type: "dtmf", id: crypto.randomUUID(), data: { buttons: [key] } });
  }

  /** @param {MediaStreamTrack} track */
  useMicrophone(track) {
    return this.#peer.useMicrophone(track);
  }

  close() {
    window.clearTimeout(this.#waiting);
    this.#peer.close();
  }

  #greet() {
    this.#peer.send({
      label: LABEL,
      type: "client-ready",
      id: crypto.randomUUID(),
      data: { version: VERSION, about: { library: "talkpath-page" } },
    });
    window.clearTimeout(this.#waiting);
    this.#waiting = window.setTimeout(() => {
      this.close();
      this.#events.onEnd(new PageError("The bot does not answer."));
    }, READY_WITHIN_MS);
  }

  /** @param {any} message */
  #receive(message) {
    if (message.label !== LABEL) return;
    if (message.type === "bot-ready") {
      window.clearTimeout(this.#waiting);
      this.#events.onState("connected");
    } else if (message.type === "error" && message.data?.fatal) {
      this.close();
      this.#events.onEnd(new PageError(message.data.error));
      return;
    }
    this.#events.onMessage(message.type, message.data ?? {});
  }
}

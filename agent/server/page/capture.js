// The microphone's sound: taken from its track in the form that the server wants.

import { PageError } from "./errors.js";

const REST_WITHIN_MS = 1_000;
const FLOOR_DB = -60;
const TOP_DB = -10;

/** Takes the sound of one track as 16-bit samples at 16 kHz. */
export class Capture {
  #context;
  #source;
  #node;
  /** @type {() => void} */
  #done = () => {};

  /**
   * @param {AudioContext} context made where the person pressed the button: others stay silent
   * @param {MediaStreamTrack} track
   * @param {(pcm: ArrayBuffer, level: number) => void} onFrame level from 0 to 1
   * @throws {PageError}
   */
  static async start(context, track, onFrame) {
    try {
      await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
      await context.resume();
      return new Capture(context, track, onFrame);
    } catch (cause) {
      throw new PageError("This browser cannot read the microphone's sound.", { cause });
    }
  }

  /**
   * @param {AudioContext} context
   * @param {MediaStreamTrack} track
   * @param {(pcm: ArrayBuffer, level: number) => void} onFrame
   */
  constructor(context, track, onFrame) {
    this.#context = context;
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#node = new AudioWorkletNode(context, "recorder", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    this.#node.port.onmessage = ({ data: { pcm, power, last } }) => {
      if (pcm.byteLength) onFrame(pcm, level(power));
      if (last) this.#done();
    };
    // It gives out silence; only what leads to the loudspeaker is run in every browser.
    this.#source.connect(this.#node).connect(context.destination);
  }

  /** Take no more; the rest of the last frame comes before this is done. */
  async stop() {
    await new Promise((resolve) => {
      this.#done = () => resolve(undefined);
      this.#node.port.postMessage("stop");
      // A context that the browser put to sleep answers nothing, and has nothing left to say.
      window.setTimeout(resolve, REST_WITHIN_MS);
    });
    this.close();
  }

  /** End at once. */
  close() {
    this.#node.port.onmessage = null;
    this.#source.disconnect();
    this.#node.disconnect();
    if (this.#context.state !== "closed") this.#context.close();
  }
}

/** @param {number} power mean square of the samples */
function level(power) {
  const db = 10 * Math.log10(power + 1e-12);
  return Math.min(1, Math.max(0, (db - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
}

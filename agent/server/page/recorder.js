// Runs in the audio thread: microphone in, frames of 16-bit samples at 16 kHz out.

import { Resampler } from "./resampler.js";

const RATE_HZ = 16_000;
const FRAME = 512; // samples: 32 ms, the window of the server's voice activity detection

class Recorder extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE_HZ);
  #frame = new Int16Array(FRAME);
  #filled = 0;
  #power = 0;
  #stopped = false;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#stopped = true;
      this.#send(true);
    };
  }

  /** @param {Float32Array[][]} inputs */
  process([[channel]]) {
    if (this.#stopped) return false;
    if (!channel) return true; // the track is muted or gone
    for (const sample of this.#resampler.push(channel)) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.#frame[this.#filled] = Math.round(clipped * 32_767);
      this.#power += clipped * clipped;
      this.#filled += 1;
      if (this.#filled === FRAME) this.#send(false);
    }
    return true;
  }

  /** @param {boolean} last */
  #send(last) {
    const pcm = this.#frame.slice(0, this.#filled).buffer;
    const power = this.#power / Math.max(1, this.#filled);
    this.#filled = this.#power = 0;
    this.port.postMessage({ pcm, power, last }, [pcm]);
  }
}

registerProcessor("recorder", Recorder);

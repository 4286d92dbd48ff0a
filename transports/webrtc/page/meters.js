// Level meters: root mean square of what is heard, on a scale of decibels.

const FLOOR_DB = -60;
const TOP_DB = -10;

export class Meters {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Map<HTMLElement, {source: MediaStreamAudioSourceNode, analyser: AnalyserNode, samples: Float32Array}>} */
  #meters = new Map();
  #timer = 0;

  /**
   * Show a track's level on an element, in the custom property `--level` from 0 to 1.
   * @param {HTMLElement} element
   * @param {MediaStreamTrack} track
   */
  show(element, track) {
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#meters.get(element)?.source.disconnect();
    const source = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    source.connect(analyser);
    this.#meters.set(element, { source, analyser, samples: new Float32Array(analyser.fftSize) });
    // Ten looks a second are enough for the eye; the style sheet smooths between them.
    this.#timer ||= window.setInterval(() => this.#measure(), 100);
  }

  stop() {
    window.clearInterval(this.#timer);
    this.#timer = 0;
    for (const [element, { source }] of this.#meters) {
      source.disconnect();
      element.style.setProperty("--level", "0");
    }
    this.#meters.clear();
    this.#context?.close();
    this.#context = null;
  }

  #measure() {
    for (const [element, { analyser, samples }] of this.#meters) {
      analyser.getFloatTimeDomainData(samples);
      let power = 0;
      for (const sample of samples) power += sample * sample;
      const db = 10 * Math.log10(power / samples.length + 1e-12);
      const level = Math.min(1, Math.max(0, (db - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
      element.style.setProperty("--level", level.toFixed(3));
    }
  }
}

// Change of the sampling rate, sample by sample: a windowed sinc for each phase between the rates.

const ZEROS = 24; // of the sinc, to each side
const BETA = 5.65; // of the Kaiser window: 60 dB, by Kaiser's formula 0.1102 (A - 8.7)
const PASS = 0.925; // of the lower Nyquist frequency: 60 dB are reached there where it ends

export class Resampler {
  #phases;
  #step;
  #half;
  /** @type {Float32Array[]} taps by phase */
  #taps;
  /** @type {Float32Array} input that later output needs */
  #kept;
  #phase = 0;

  /**
   * @param {number} fromHz whole
   * @param {number} toHz whole
   */
  constructor(fromHz, toHz) {
    const shared = divisor(fromHz, toHz);
    this.#phases = toHz / shared;
    this.#step = fromHz / shared;
    // Frequencies above the lower rate's half would fold back, so that rate sets the cutoff.
    const cutoff = PASS * Math.min(1, toHz / fromHz);
    this.#half = Math.ceil(ZEROS / cutoff);
    this.#taps = Array.from({ length: this.#phases }, (_, phase) =>
      taps(this.#half, phase / this.#phases, cutoff),
    );
    // Silence before the first sample: the filter's first output lies on it.
    this.#kept = new Float32Array(this.#half - 1);
  }

  /**
   * @param {Float32Array} input any number of samples
   * @returns {Float32Array} as many as can be computed by now; a filter's half is still due
   */
  push(input) {
    if (this.#phases === 1 && this.#step === 1) return input;
    const all = new Float32Array(this.#kept.length + input.length);
    all.set(this.#kept);
    all.set(input, this.#kept.length);
    const output = [];
    let first = 0; // sample under the filter's first tap
    for (; first + 2 * this.#half <= all.length; ) {
      const weights = this.#taps[this.#phase];
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap += 1) sum += weights[tap] * all[first + tap];
      output.push(sum);
      this.#phase += this.#step;
      first += Math.floor(this.#phase / this.#phases);
      this.#phase %= this.#phases;
    }
    this.#kept = all.slice(first);
    return Float32Array.from(output);
  }
}

/**
 * @param {number} half taps to each side
 * @param {number} offset of the output between two samples of input, 0 to 1
 * @param {number} cutoff as a part of the input's Nyquist frequency
 */
function taps(half, offset, cutoff) {
  const weights = new Float32Array(2 * half);
  let sum = 0;
  for (let tap = 0; tap < weights.length; tap += 1) {
    const distance = tap - (half - 1) - offset;
    const edge = Math.min(1, Math.abs(distance) / half);
    const angle = Math.PI * cutoff * distance;
    const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
    weights[tap] = sinc * bessel(BETA * Math.sqrt(1 - edge * edge));
    sum += weights[tap];
  }
  return weights.map((weight) => weight / sum);
}

/** @param {number} x the modified Bessel function of the first kind and order 0 */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-9 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}

// The microphone: opening it, listing the choices, remembering the choice, taking its sound.

import { PageError } from "./errors.js";

const REMEMBERED = "talkpath.microphone";
const REST_WITHIN_MS = 1_000;
const FLOOR_DB = -60;
const TOP_DB = -10;

/** @returns {string} device id of the remembered microphone, "" for the default one */
export function remembered() {
  try {
    return localStorage.getItem(REMEMBERED) ?? "";
  } catch {
    return ""; // storage is switched off
  }
}

/** @param {string} deviceId */
export function remember(deviceId) {
  try {
    localStorage.setItem(REMEMBERED, deviceId);
  } catch {
    // Storage is switched off: the choice lasts as long as the page.
  }
}

/**
 * Open a microphone; one that has gone is replaced by the default one.
 * @param {string} deviceId "" for the default one
 * @param {boolean} denoise whether the browser suppresses noise
 * @returns {Promise<MediaStreamTrack>}
 * @throws {PageError}
 */
export async function open(deviceId, denoise) {
  if (!window.isSecureContext || !navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new PageError(
      "Browsers give the microphone only to secure pages. Open this page over https, or at localhost on the machine itself. Recordings can be opened here nonetheless.",
    );
  }
  const wanted = {
    channelCount: 1,
    // Nothing is played here, and what other loudspeakers say may be what shall be written down.
    echoCancellation: false,
    noiseSuppression: denoise,
    autoGainControl: true,
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    return stream.getAudioTracks()[0];
  } catch (error) {
    if (deviceId && ["NotFoundError", "OverconstrainedError"].includes(error.name)) {
      return open("", denoise);
    }
    throw new PageError(sentence(error.name), { cause: error });
  }
}

/** @param {string} name of the DOMException */
function sentence(name) {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The microphone is blocked. Allow it for this page in the address bar, then try again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, then try again.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone cannot be opened; another program may be using it. Close that program, then try again.";
    default:
      return `The microphone cannot be opened (${name}).`;
  }
}

/**
 * Fill the choice with the microphones there are; names show once one was allowed.
 * @param {HTMLSelectElement} select
 */
export async function fill(select) {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const inputs = devices.filter((device) => device.kind === "audioinput");
  const options = [new Option("Default microphone", "")];
  for (const [index, device] of inputs.entries()) {
    if (device.deviceId && device.deviceId !== "default") {
      options.push(new Option(device.label || `Microphone ${index + 1}`, device.deviceId));
    }
  }
  const wanted = select.value || remembered();
  select.replaceChildren(...options);
  select.value = options.some((option) => option.value === wanted) ? wanted : "";
}

/** Takes the sound of one track as 16-bit samples at 16 kHz. */
export class Recording {
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
      return new Recording(context, track, onFrame);
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

// The microphone: opening it, listing the choices, remembering the choice.

import { PageError } from "./errors.js";

const REMEMBERED = "talkpath.microphone";

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
 * @param {MediaTrackConstraints} processing what the browser does with the sound
 * @param {string} [instead] what can be done on a page that may not have the microphone
 * @returns {Promise<MediaStreamTrack>}
 * @throws {PageError}
 */
export async function open(deviceId, processing, instead = "") {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    const why = "Browsers give the microphone only to secure pages. Open this page over https, or at localhost on the machine itself.";
    throw new PageError(`${why} ${instead}`.trim());
  }
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { ...processing, ...device } });
    return stream.getAudioTracks()[0];
  } catch (error) {
    if (deviceId && ["NotFoundError", "OverconstrainedError"].includes(error.name)) {
      return open("", processing, instead);
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

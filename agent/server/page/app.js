// The page's wiring: controls, states, and which message goes where.

import { Capture } from "./capture.js";
import { PageError } from "./errors.js";
import { Examples } from "./examples.js";
import { Latency } from "./latency.js";
import * as microphone from "./microphone.js";
import { complain } from "./problem.js";
import { transcribe } from "./recording.js";
import * as server from "./server.js";
import { Settings } from "./settings.js";
import { Stream, configuration } from "./stream.js";
import * as transcript from "./transcript.js";
import { Words } from "./words.js";

/** @param {string} id */
const $ = (id) => /** @type {any} */ (document.getElementById(id));

const STATES = {
  idle: "Not listening",
  asking: "Waiting for the microphone",
  connecting: "Connecting",
  listening: "Listening",
  finishing: "Waiting for the last words",
  reading: "Writing down the recording",
  lost: "Connection lost",
};
const BUTTONS = { idle: "Listen", lost: "Listen", listening: "Stop" };
const STILL = ["idle", "lost"];

/** @type {keyof typeof STATES} */
let state = "idle";
let attempt = 0; // which press of the button counts
let model = "";
let pause_ms = 0; // that ends what is said, as this stream was told
/** @type {Stream | null} */
let stream = null;
/** @type {Capture | null} */
let recording = null;
/** @type {MediaStreamTrack | null} */
let track = null;
/** @type {AbortController | null} */
let upload = null;
/** @type {() => void} what waits for a key */
let afterKey = () => {};

const words = new Words({
  scroller: $("words"),
  list: $("lines"),
  welcome: $("welcome"),
  jump: $("jump"),
  announcer: $("announcer"),
  onChange: () => {
    const lines = words.transcript();
    $("tools").hidden = lines.length === 0;
    // The words of a recording come without times.
    $("save-subtitles").hidden = lines.every(({ start_s }) => start_s === null);
  },
});
const latency = new Latency({
  empty: $("timing-empty"),
  body: $("timing-body"),
  latest: $("latest"),
  median: $("median"),
  p95: $("p95"),
  after: $("after"),
  count: $("count"),
  bars: $("bars"),
  toggle: $("panel-toggle"),
});
const settings = new Settings($("settings"), () => {
  $("settings-note").hidden = state !== "listening";
});
const examples = new Examples({
  tabs: $("tabs"),
  panel: $("example"),
  note: $("example-note"),
  code: $("example-code"),
}, showExample);

/** @param {keyof typeof STATES} next */
function show(next) {
  state = next;
  const still = STILL.includes(state);
  document.body.dataset.state = state;
  $("state").dataset.state = state;
  $("state").textContent = STATES[state];
  $("listen").textContent = BUTTONS[state] ?? "Cancel";
  $("listen").classList.toggle("primary", still);
  $("listen").classList.toggle("quiet", !still);
  $("file").disabled = !still;
  $("file-label").dataset.disabled = String(!still);
  $("settings-note").hidden = true;
}

/**
 * @param {unknown} error
 * @param {() => void} again
 */
function explain(error, again) {
  if (error instanceof PageError && error.status === 401) return askForKey(error.message, again, server.key() !== "");
  if (!(error instanceof PageError)) console.error(error);
  complain(error instanceof PageError ? error.message : "Something went wrong on this page.", "Try again", again);
}

/** @param {string} text for people who cannot see what changed */
function tell(text) {
  $("told").textContent = "";
  $("told").textContent = text;
}

/**
 * @param {string} why
 * @param {() => void} then what the key is for
 * @param {boolean} [wrong] whether the one before was not taken
 */
function askForKey(why, then, wrong = false) {
  afterKey = then;
  $("key-label").textContent = why;
  $("key-form").dataset.wrong = String(wrong);
  $("key-form").hidden = false;
  $("key").value = "";
  $("key").focus();
}

/**
 * What the browser shall do with the microphone's sound.
 * @param {boolean} denoise
 * @returns {MediaTrackConstraints}
 */
function processing(denoise) {
  // Nothing is played here, and what other loudspeakers say may be what shall be written down.
  return { channelCount: 1, echoCancellation: false, noiseSuppression: denoise, autoGainControl: true };
}

/** Ask the server who it is; whether it wants a key turns out. */
async function greet() {
  model = await server.model();
  $("key-form").hidden = true;
  $("change-key").hidden = !server.key();
  $("model-line").textContent = model ? `Whisper ${model}` : "this server";
  settings.languages(model);
  examples.useModel(model);
  await examples.show();
}

/** @param {boolean} speaking */
function speaking(speaking) {
  $("voice").dataset.speaking = String(speaking);
  $("voice-note").textContent = speaking ? "speaking" : "silent";
}

async function listen() {
  $("problem").hidden = true;
  leaveCode();
  const token = (attempt += 1);
  // Made now, since a browser lets only an answer to a press of a button make sound.
  const context = window.isSecureContext && window.AudioContext ? new AudioContext() : null;
  try {
    show("connecting");
    await greet();
    if (token !== attempt) return;
    show("asking");
    const opened = await microphone.open(
      $("microphone").value,
      processing(settings.read().denoise),
      "Recordings can be opened here nonetheless.",
    );
    if (token !== attempt) return opened.stop();
    track = opened;
    await microphone.fill($("microphone"));
    if (token !== attempt) return;
    show("connecting");
    await connect(token, /** @type {AudioContext} */ (context));
  } catch (error) {
    if (token !== attempt) return;
    release("idle");
    explain(error, listen);
  } finally {
    const used = token === attempt && recording;
    if (!used && context && context.state !== "closed") context.close();
  }
}

/**
 * @param {number} token
 * @param {AudioContext} context
 */
async function connect(token, context) {
  const mine = (stream = new Stream({
    onText: (transcription) => stream === mine && receive(transcription),
    onError: (sentence) => complain(sentence, "Dismiss", () => {}),
    onEnd: (error) => stream === mine && ended(error),
  }));
  const wanted = settings.read();
  pause_ms = wanted.silence_ms;
  await mine.open(configuration(wanted));
  if (token !== attempt) return;
  words.begin();
  const started = await Capture.start(context, /** @type {MediaStreamTrack} */ (track), (pcm, level) => {
    mine.send(pcm);
    $("meter").style.setProperty("--level", level.toFixed(3));
  });
  if (token !== attempt) return started.close();
  recording = started;
  /** @type {MediaStreamTrack} */ (track).onended = () => {
    stop();
    complain("The microphone was unplugged.", "Use another one", listen);
  };
  show("listening");
}

/** @param {import("./stream.js").Transcription} transcription */
function receive(transcription) {
  const at = words.add(transcription);
  if (transcription.is_final && at !== null && transcription.pipeline_latency !== null) {
    latency.add(1000 * transcription.pipeline_latency, pause_ms, at);
  }
  speaking(words.speaking);
}

/** Stop listening, and wait for the words that are due. */
async function stop() {
  const token = (attempt += 1);
  show("finishing");
  track?.stop();
  try {
    await recording?.stop();
    await stream?.finish();
  } catch (error) {
    if (token === attempt) explain(error, listen);
  }
  if (token === attempt) release("idle");
}

/** @param {PageError | null} error */
function ended(error) {
  const finishing = state === "finishing";
  release(error?.lost ? "lost" : "idle");
  if (error) complain(error.message, "Listen again", listen);
  else if (!finishing) complain("The server ended the connection.", "Listen again", listen);
}

/**
 * Let go of everything that is under way.
 * @param {keyof typeof STATES} next
 */
function release(next) {
  attempt += 1;
  upload?.abort();
  stream?.close();
  recording?.close();
  if (track) track.onended = null;
  track?.stop();
  upload = stream = recording = track = null;
  $("meter").style.setProperty("--level", "0");
  words.end();
  speaking(false);
  show(next);
}

/** @param {File} file */
async function read(file) {
  if (!STILL.includes(state)) return complain("One thing at a time: stop listening first.", "Dismiss", () => {});
  $("problem").hidden = true;
  leaveCode();
  const token = (attempt += 1);
  const mine = (upload = new AbortController());
  show("reading");
  /** @type {ReturnType<Words["recording"]> | null} */
  let lines = null;
  try {
    await greet();
    if (token !== attempt) return;
    lines = words.recording(file.name);
    const { language } = settings.read();
    const { text, warning } = await transcribe(file, { model, language, signal: mine.signal }, lines.more);
    lines.done(text);
    const flaw = warning ? server.asSentence(warning) : text.trim() ? "" : "There are no words in this recording.";
    if (flaw) complain(flaw, "Dismiss", () => {});
  } catch (error) {
    lines?.done();
    if (token !== attempt) return;
    explain(error, () => read(file));
  }
  if (token === attempt) release("idle");
}

/** What is done now shows in the other view. */
function leaveCode() {
  // Only if needed: going to a place on the page takes the focus there.
  if (location.hash === "#code") location.hash = "#try";
}

/** @param {boolean} open on a narrow screen, where it lies over the words */
function openPanel(open) {
  $("panel").classList.toggle("open", open);
  $("panel-toggle").setAttribute("aria-expanded", String(open));
}

/** Show one of the two views, as the address says. */
function route() {
  const code = location.hash === "#code";
  document.body.dataset.view = code ? "code" : "try";
  $("try").hidden = code;
  $("code").hidden = !code;
  for (const [id, current] of [["go-try", !code], ["go-code", code]]) {
    if (current) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  if (code) showExample();
}

/** @param {string} [id] the one shown last by default */
function showExample(id) {
  examples.show(id).catch((error) => explain(error, () => showExample(id)));
}

/**
 * @param {string} text
 * @param {HTMLElement} button which says that it is done
 */
async function copy(text, button) {
  const before = button.dataset.label ?? (button.dataset.label = button.textContent ?? "");
  const done = await transcript.copy(text);
  button.textContent = done ? "Copied" : "Not copied";
  tell(done ? "Copied" : "The browser did not let this page copy.");
  window.setTimeout(() => (button.textContent = before), 2_000);
}

$("listen").addEventListener("click", () => {
  if (STILL.includes(state)) listen();
  else if (state === "listening") stop();
  else release("idle");
});
$("key-form").addEventListener("submit", async (/** @type {Event} */ event) => {
  event.preventDefault();
  server.useKey($("key").value.trim());
  $("problem").hidden = true;
  const then = afterKey;
  try {
    await greet();
    $("listen").focus();
    then();
  } catch (error) {
    explain(error, then);
  }
});
$("change-key").addEventListener("click", () => {
  if ($("key-form").hidden) askForKey("Another key", () => {});
  else $("key-form").hidden = true;
});
$("microphone").addEventListener("change", () => {
  microphone.remember($("microphone").value);
  $("settings-note").hidden = state !== "listening";
});
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  $("file").value = ""; // the same one may be chosen again
  if (file) read(file);
});
$("copy").addEventListener("click", () => copy(transcript.asText(words.transcript()), $("copy")));
$("save-text").addEventListener("click", () => {
  transcript.save("transcript.txt", transcript.asText(words.transcript()));
});
$("save-subtitles").addEventListener("click", () => {
  transcript.save("transcript.srt", transcript.asSubtitles(words.transcript()));
});
$("clear").addEventListener("click", () => {
  words.clear();
  $("words").focus();
});
$("copy-code").addEventListener("click", () => copy(examples.text, $("copy-code")));
$("panel-toggle").addEventListener("click", () => {
  openPanel(!$("panel").classList.contains("open"));
});
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !$("panel").classList.contains("open")) return;
  openPanel(false);
  $("panel-toggle").focus();
});

let dragged = 0; // elements that the pointer entered and did not leave
/** @param {DragEvent} event */
const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!carriesFile(event)) return;
  dragged += 1;
  $("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!carriesFile(event)) return;
  dragged -= 1;
  if (dragged <= 0) $("drop").hidden = true;
});
document.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  dragged = 0;
  $("drop").hidden = true;
  if (!carriesFile(event)) return;
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (file) read(file);
});
window.addEventListener("hashchange", route);
window.addEventListener("pagehide", () => stream?.close());
navigator.mediaDevices?.addEventListener("devicechange", () => microphone.fill($("microphone")));

show("idle");
route();
microphone.fill($("microphone"));
greet().catch((error) => {
  // Without an answer there is nothing to do here; a key may as well be asked for at once.
  if (error instanceof PageError) explain(error, () => greet().catch((again) => explain(again, listen)));
  else console.error(error);
});

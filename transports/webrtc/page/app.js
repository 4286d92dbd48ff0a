// The page's wiring: controls, states, and which message goes where.

import { Conversation } from "./captions.js";
import { PageError } from "./errors.js";
import { Export } from "./export.js";
import { Keypad } from "./keypad.js";
import { Latency } from "./latency.js";
import { Meters } from "./meters.js";
import * as microphone from "./microphone.js";
import { complain, mention } from "./problem.js";
import { Session } from "./rtvi.js";

/** @param {string} id */
const $ = (id) => /** @type {any} */ (document.getElementById(id));

/** What the browser does with the microphone's sound: the bot's voice is in the room, too. */
const PROCESSING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

const STATES = {
  idle: "Not connected",
  asking: "Waiting for the microphone",
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  lost: "Connection lost",
};
const IN_CALL = ["asking", "connecting", "connected", "reconnecting"];

const conversation = new Conversation({
  scroller: $("conversation"),
  list: $("entries"),
  welcome: $("welcome"),
  jump: $("jump"),
  announcer: $("announcer"),
});
const latency = new Latency({
  empty: $("timing-empty"),
  body: $("timing-body"),
  latest: $("latest"),
  note: $("latest-note"),
  counts: $("turn-counts"),
  legend: $("legend"),
  turns: $("turns"),
  toggle: $("timing-toggle"),
});
const captions = new Export({ group: $("export"), format: $("export-format"), save: $("export-save") });
const meters = new Meters();
const keypad = new Keypad({ toggle: $("keys"), pad: $("keypad") }, (key) => session?.press(key) ?? false);

/** @type {keyof typeof STATES} */
let state = "idle";
/** @type {Session | null} */
let session = null;
/** @type {MediaStreamTrack | null} */
let track = null;
let muted = false;
let turns = false; // whether the bot reports when the caller starts and stops
let target = ""; // where the bot wants the caller put through to
let attempt = 0; // which press of Connect counts

/** @param {keyof typeof STATES} next */
function show(next) {
  state = next;
  const busy = IN_CALL.includes(state);
  document.body.dataset.state = state;
  $("state").dataset.state = state;
  $("state").textContent = STATES[state];
  $("connect").textContent = state === "connected" ? "Disconnect" : busy ? "Cancel" : state === "lost" ? "Connect again" : "Connect";
  $("connect").classList.toggle("primary", !busy);
  $("connect").classList.toggle("quiet", busy);
  $("mute").disabled = !busy;
  keypad.enable(state === "connected" || state === "reconnecting");
}

/**
 * @param {"you" | "bot"} who
 * @param {boolean} speaking
 */
function speaking(who, speaking) {
  $(`voice-${who}`).dataset.speaking = String(speaking);
  $(`note-${who}`).textContent = speaking ? "speaking" : who === "you" && muted ? "muted" : "silent";
}

/** @param {MediaStreamTrack} opened */
function useMicrophone(opened) {
  track?.stop();
  track = opened;
  track.enabled = !muted;
  track.onended = () => {
    if (track === opened) complain("The microphone was unplugged.", "Use another one", changeMicrophone);
  };
  meters.show($("meter-you"), track);
}

async function changeMicrophone() {
  microphone.remember($("microphone").value);
  if (!session) return;
  const current = session;
  try {
    const opened = await microphone.open($("microphone").value, PROCESSING);
    if (session !== current) return opened.stop();
    useMicrophone(opened);
    await current.useMicrophone(opened);
    await microphone.fill($("microphone"));
  } catch (error) {
    complain(sentence(error), "Try again", changeMicrophone);
  }
}

/** @param {unknown} error */
function sentence(error) {
  if (error instanceof PageError) return error.message;
  console.error(error);
  return "Something went wrong on this page.";
}

/** @param {boolean} next */
function mute(next) {
  muted = next;
  if (track) track.enabled = !muted;
  session?.tellMuted(muted);
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute-label").textContent = muted ? "Unmute" : "Mute";
  speaking("you", false);
}

/** @param {MediaStreamTrack} voice the bot's */
function hear(voice) {
  $("sound").srcObject = new MediaStream([voice]);
  $("sound").play().catch((/** @type {Error} */ error) => {
    if (error.name !== "NotAllowedError") return;
    complain("The browser keeps the bot's voice back.", "Turn the sound on", () => $("sound").play());
  });
  meters.show($("meter-bot"), voice);
}

/**
 * @param {string} type
 * @param {any} data
 */
function receive(type, data) {
  switch (type) {
    case "server-message":
      if (data.type === "caption") {
        conversation.caption(data);
        captions.caption(data);
        // A bot without turns says nothing of its own about who speaks.
        if (!turns) speaking("you", !data.final);
      }
      if (data.type === "cues") captions.add(data);
      if (data.type === "turn-latency") latency.add(data);
      if (data.type === "turn-counts") latency.count(data);
      if (data.type === "transfer") target = data.target;
      break;
    case "user-transcription":
      conversation.transcript(data);
      break;
    case "bot-output":
      conversation.output(data);
      break;
    case "bot-interrupted":
      conversation.interrupted();
      break;
    case "user-started-speaking":
      turns = true;
      speaking("you", true);
      break;
    case "user-stopped-speaking":
      speaking("you", false);
      conversation.turnEnded();
      captions.turnEnded();
      break;
    case "bot-started-speaking":
      speaking("bot", true);
      conversation.botStarted();
      break;
    case "bot-stopped-speaking":
      speaking("bot", false);
      conversation.botStopped();
      break;
    case "error":
      complain(data.error ?? "The bot reports an error.", "Dismiss", () => {});
      break;
  }
}

async function connect() {
  $("problem").hidden = true;
  show("asking");
  /** @type {Session | null} */
  let mine = null;
  const token = (attempt += 1);
  try {
    const opened = await microphone.open($("microphone").value, PROCESSING);
    if (token !== attempt) return opened.stop();
    useMicrophone(opened);
    await microphone.fill($("microphone"));
    if (token !== attempt) return;
    conversation.begin();
    captions.begin();
    latency.count({});
    turns = false;
    target = "";
    mine = session = new Session(opened, {
      onTrack: hear,
      onState: show,
      onMessage: receive,
      onEnd: (error) => {
        if (session === mine) ended(error);
      },
    });
    await mine.connect();
    if (session === mine && muted) mine.tellMuted(true);
  } catch (error) {
    if (token !== attempt || (mine && session !== mine)) return;
    hangUp("idle");
    complain(sentence(error), "Try again", connect);
  }
}
/** @param {PageError | null} error */
function ended(error) {
  hangUp(error?.lost ? "lost" : "idle");
  if (error) complain(error.message, "Connect again", connect);
  else if (target) mention(`The bot ended the call: a telephone would now be put through to “${target}”.`);
  else mention("The bot ended the call.");
}

/** @param {keyof typeof STATES} next */
function hangUp(next) {
  attempt += 1;
  session?.close();
  session = null;
  track?.stop();
  track = null;
  meters.stop();
  $("sound").srcObject = null;
  speaking("you", false);
  speaking("bot", false);
  conversation.end();
  show(next);
}

$("connect").addEventListener("click", () => {
  if (IN_CALL.includes(state)) hangUp("idle");
  else connect();
});
$("mute").addEventListener("click", () => mute(!muted));
$("microphone").addEventListener("change", changeMicrophone);
$("timing-toggle").addEventListener("click", () => {
  const open = $("timing").classList.toggle("open");
  $("timing-toggle").setAttribute("aria-expanded", String(open));
});
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "m" || event.repeat) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof Element && event.target.closest("select, input, textarea")) return;
  if (!$("mute").disabled) mute(!muted);
});
window.addEventListener("pagehide", () => session?.close());
navigator.mediaDevices?.addEventListener("devicechange", () => microphone.fill($("microphone")));

show("idle");
microphone.fill($("microphone"));

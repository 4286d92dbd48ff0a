// The code to connect: one tab a protocol, with this server's own address in it.

import { PageError } from "./errors.js";
import { NO_ANSWER, address } from "./server.js";

/** What stands in `example-ID.txt`. */
const EXAMPLES = [
  { id: "curl", name: "curl", note: "A recording, from the command line." },
  { id: "openai", name: "OpenAI package", note: "A recording, with OpenAI's own package: its words, their times, and the text while it is found." },
  { id: "openai-realtime", name: "OpenAI Realtime", note: "Live speech, with OpenAI's own package: a transcription session." },
  { id: "websocket", name: "WebSocket (Baseten)", note: "Live speech over a plain WebSocket: raw samples in, JSON out. This page speaks it too." },
  { id: "together", name: "Together", note: "Live speech, in Together's dialect of the Realtime protocol." },
  { id: "talkpath", name: "talkpath", note: "Live speech, with talkpath's own client, which survives the death of a server." },
  { id: "pipecat", name: "Pipecat", note: "For bots: the services that can stand in a pipeline." },
];
const USUAL_MODEL = "whisper-1"; // any name is taken

export class Examples {
  #elements;
  /** @type {Map<string, Promise<string>>} */
  #texts = new Map();
  #shown = EXAMPLES[0].id;
  #model = USUAL_MODEL;

  /**
   * @param {{tabs: HTMLElement, panel: HTMLElement, note: HTMLElement, code: HTMLElement}} elements
   * @param {(id: string) => void} onChoice a tab was chosen: show it
   */
  constructor(elements, onChoice) {
    this.#elements = elements;
    const { tabs } = elements;
    tabs.append(...EXAMPLES.map(({ id, name }) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `tab-${id}`;
      tab.className = "tab";
      tab.textContent = name;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", elements.panel.id);
      tab.addEventListener("click", () => onChoice(id));
      return tab;
    }));
    tabs.addEventListener("keydown", (event) => this.#move(event));
  }

  /** The code as it is shown. */
  get text() {
    return this.#elements.code.textContent ?? "";
  }

  /** @param {string} model the server's name for it */
  useModel(model) {
    this.#model = model || USUAL_MODEL;
  }

  /**
   * @param {string} [id] of the example; the one shown last by default
   * @throws {PageError} there is no answer from the server
   */
  async show(id = this.#shown) {
    this.#shown = id;
    const { tabs, panel, note, code } = this.#elements;
    for (const tab of /** @type {NodeListOf<HTMLElement>} */ (tabs.querySelectorAll(".tab"))) {
      const selected = tab.id === `tab-${id}`;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", `tab-${id}`);
    note.textContent = EXAMPLES.find((example) => example.id === id)?.note ?? "";
    const text = this.#filled(await this.#text(id));
    if (this.#shown !== id) return;
    code.replaceChildren(...text.split(/(?<=\n)/).map(coloured));
    code.dataset.example = id;
  }

  /** @param {string} id */
  #text(id) {
    const known = this.#texts.get(id);
    if (known) return known;
    const text = load(`example-${id}.txt`);
    this.#texts.set(id, text);
    text.catch(() => this.#texts.delete(id)); // asked for again the next time
    return text;
  }

  /** @param {string} text */
  #filled(text) {
    const base = address(".").href.replace(/\/$/, "");
    return text
      .replaceAll("{{HTTP}}", base)
      .replaceAll("{{WS}}", base.replace(/^http/, "ws"))
      .replaceAll("{{MODEL}}", this.#model);
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const tabs = [...this.#elements.tabs.children];
    const now = tabs.indexOf(/** @type {Element} */ (event.target));
    const next = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: -1 }[event.key];
    if (now < 0 || next === undefined) return;
    event.preventDefault();
    const tab = /** @type {HTMLElement} */ (tabs.at(next % tabs.length));
    tab.focus();
    tab.click();
  }
}

/**
 * @param {string} name of a file
 * @throws {PageError}
 */
async function load(name) {
  try {
    const response = await fetch(address(name));
    if (response.ok) return await response.text();
  } catch (cause) {
    throw new PageError(NO_ANSWER, { cause });
  }
  throw new PageError("The server does not have this example.");
}

/**
 * A line of code; comments are pale.
 * @param {string} line
 */
function coloured(line) {
  if (!/^\s*#/.test(line)) return line;
  const comment = document.createElement("span");
  comment.className = "comment";
  comment.textContent = line;
  return comment;
}

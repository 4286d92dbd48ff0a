// The conversation: captions of what the caller says, and the bot's words as it speaks.
//
// Solid text is settled or spoken, pale text may still change or is yet to be spoken.

import { EndFollower } from "./scroll.js";

const KEPT = 500; // entries; older ones leave the page
const NEW_ENTRY_AFTER_MS = 4_000;
const LANGUAGES = new Intl.DisplayNames(["en"], { type: "language" });

/**
 * A stretch of one speaker.
 * @typedef {object} Entry
 * @property {"you" | "bot"} who
 * @property {HTMLElement} item
 * @property {HTMLElement} text
 * @property {Map<string, Part>} parts
 * @property {boolean} open whether more parts may be added
 * @property {boolean} interrupted whether it was cut off: nothing more of it is said
 * @property {boolean} announced whether screen readers were told the whole of it
 * @property {number} touched when text last came, in milliseconds
 */

/**
 * A piece of text: its firm beginning and its pale rest.
 * @typedef {object} Part
 * @property {HTMLElement} span
 * @property {HTMLElement} firm
 * @property {HTMLElement} pale
 * @property {boolean} settled
 */

export class Conversation {
  #list;
  #welcome;
  #scroll;
  #announcer;
  /** @type {Entry[]} */
  #entries = [];
  #call = 0;
  #captioned = false;
  #transcripts = 0;
  #botSpeaking = false;

  /** @param {{scroller: HTMLElement, list: HTMLElement, welcome: HTMLElement, jump: HTMLElement, announcer: HTMLElement}} elements */
  constructor({ scroller, list, welcome, jump, announcer }) {
    this.#list = list;
    this.#welcome = welcome;
    this.#scroll = new EndFollower(scroller, jump);
    this.#announcer = announcer;
  }

  /** A new call begins: its numbers start again. */
  begin() {
    this.#call += 1;
    this.#captioned = false;
    this.#botSpeaking = false;
    this.#close();
  }

  /** The call is over: nothing pale is waiting for anything any more. */
  end() {
    for (const entry of this.#entries.slice(-20)) this.#finish(entry);
    this.#close();
  }

  /**
   * A caption of the caller's words.
   * @param {{utterance: number, stable: string, rest: string, final: boolean, language: string | null, spoken: string | null}} caption
   */
  caption({ utterance, stable, rest, final, language, spoken }) {
    if (!this.#captioned) {
      this.#captioned = true;
      // This bot sends captions: transcripts shown so far would say everything twice.
      for (const entry of this.#entries.slice(-20)) {
        for (const key of [...entry.parts.keys()]) {
          if (key.startsWith(`${this.#call}t`)) this.#remove(entry, key);
        }
      }
    }
    this.#say(`${this.#call}u${utterance}`, stable, rest, final, language);
    if (spoken && spoken !== language) this.#nameLanguage(`${this.#call}u${utterance}`, spoken);
  }

  /**
   * A transcript of the caller's words, used for bots that send no captions.
   * @param {{text: string, final: boolean}} transcript
   */
  transcript({ text, final }) {
    if (this.#captioned) return;
    this.#say(`${this.#call}t${this.#transcripts}`, final ? text : "", final ? "" : text, final, null);
    if (final) this.#transcripts += 1;
  }

  /** The caller's turn ended: the next words are a new entry. */
  turnEnded() {
    this.#close("you");
  }

  /**
   * Words of the bot.
   * @param {{text: string, segment_id?: number, will_be_spoken?: boolean, spoken_status?: string,
   *          spoken_progress?: {accumulated_text: string, remaining_text: string}}} output
   */
  output({ text, segment_id, will_be_spoken, spoken_status, spoken_progress }) {
    const key = `${this.#call}b${segment_id ?? text}`;
    let entry = this.#entries.find((one) => one.parts.has(key));
    if (entry?.interrupted) return; // a straggler
    entry ??= this.#entryFor("bot");
    const part = this.#part(entry, key);
    if (spoken_status === "new" && part.firm.textContent) return; // its progress came first
    if (will_be_spoken && spoken_progress && spoken_status !== "completed") {
      set(part, spoken_progress.accumulated_text, spoken_progress.remaining_text);
    } else {
      set(part, text, "");
    }
    part.settled = !part.pale.textContent;
    if (part.firm.textContent) this.#dropUnsaid(entry, key);
    this.#scroll.follow();
  }

  botStarted() {
    this.#botSpeaking = true;
  }

  botStopped() {
    this.#botSpeaking = false;
    const entry = this.#entries.findLast(({ who }) => who === "bot");
    if (!entry || entry.interrupted || entry.announced) return;
    const parts = [...entry.parts.values()];
    // A voice that reports no words leaves everything pale; what it began, it has finished.
    const reports = parts.some(({ firm }) => firm.textContent);
    for (const part of parts.filter(({ settled }) => !settled)) {
      if (reports && !part.firm.textContent) continue;
      set(part, part.firm.textContent + part.pale.textContent, "");
      part.settled = true;
    }
    if (parts.every(({ settled }) => settled)) {
      entry.announced = true;
      this.#announce("Bot", entry);
    }
  }

  /** The caller broke in: what was said stays, the rest was never said. */
  interrupted() {
    const entry = this.#entries.findLast(({ who }) => who === "bot");
    if (!entry || entry.interrupted) return;
    const parts = [...entry.parts.values()];
    if (this.#botSpeaking || parts.some(({ settled }) => !settled)) {
      entry.interrupted = true;
      entry.item.dataset.interrupted = "true";
      for (const part of parts) {
        if (!part.pale.textContent) continue;
        const struck = document.createElement("s");
        const unsaid = part.pale.textContent;
        struck.textContent = unsaid.trimStart();
        part.pale.replaceChildren(unsaid.slice(0, unsaid.length - struck.textContent.length), struck);
      }
      const note = document.createElement("span");
      note.className = "note";
      note.textContent = "interrupted";
      entry.item.firstElementChild.append(note);
      this.#announce("Bot, interrupted", entry);
    }
    entry.open = false;
    this.#botSpeaking = false;
  }

  /**
   * @param {string} key
   * @param {string} stable
   * @param {string} rest
   * @param {boolean} final
   * @param {string | null} language
   */
  #say(key, stable, rest, final, language) {
    const known = this.#entries.find((one) => one.parts.has(key));
    if (!known && !stable && !rest) return;
    const entry = known ?? this.#entryFor("you");
    if (final && !stable.trim()) {
      this.#remove(entry, key);
      return;
    }
    const part = this.#part(entry, key);
    if (part.settled) return;
    set(part, stable, rest);
    if (language) part.span.lang = language;
    entry.touched = performance.now();
    if (final) {
      part.settled = true;
      this.#announce("You", entry, part);
    }
    this.#scroll.follow();
  }

  /**
   * Show which language an entry was translated from.
   * @param {string} key
   * @param {string} code
   */
  #nameLanguage(key, code) {
    const entry = this.#entries.find((one) => one.parts.has(key));
    if (!entry) return;
    let note = entry.item.querySelector(".spoken");
    if (!note) {
      note = document.createElement("span");
      note.className = "note spoken";
      entry.item.firstElementChild.append(note);
    }
    note.textContent = LANGUAGES.of(code) ?? code;
  }

  /**
   * The speaker's entry that is still open, or a new one.
   * @param {"you" | "bot"} who
   * @returns {Entry}
   */
  #entryFor(who) {
    const last = this.#entries.at(-1);
    const now = performance.now();
    if (last?.who === who && last.open) {
      const live = who === "bot" || [...last.parts.values()].some(({ settled }) => !settled);
      if (live || now - last.touched < NEW_ENTRY_AFTER_MS) return last;
    }
    this.#close();
    const item = document.createElement("li");
    item.className = `entry ${who}`;
    const label = document.createElement("p");
    label.className = "who";
    const name = document.createElement("span");
    name.textContent = who === "you" ? "You" : "Bot";
    const time = document.createElement("time");
    const date = new Date();
    time.dateTime = date.toISOString();
    time.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    label.append(name, time);
    const text = document.createElement("p");
    text.className = "text";
    item.append(label, text);
    this.#list.append(item);
    /** @type {Entry} */
    const entry = { who, item, text, parts: new Map(), open: true, interrupted: false, announced: false, touched: now };
    this.#entries.push(entry);
    while (this.#entries.length > KEPT) this.#entries.shift().item.remove();
    this.#welcome.hidden = true;
    return entry;
  }

  /**
   * @param {Entry} entry
   * @param {string} key
   * @returns {Part}
   */
  #part(entry, key) {
    const known = entry.parts.get(key);
    if (known) return known;
    const [span, firm, pale] = ["part", "firm", "pale"].map((name) => {
      const element = document.createElement("span");
      element.className = name;
      return element;
    });
    span.append(firm, pale);
    if (entry.parts.size) entry.text.append(" ");
    entry.text.append(span);
    const part = { span, firm, pale, settled: false };
    entry.parts.set(key, part);
    return part;
  }

  /**
   * @param {Entry} entry
   * @param {string} key
   */
  #remove(entry, key) {
    entry.parts.get(key)?.span.remove();
    entry.parts.delete(key);
    if (entry.parts.size) return;
    entry.item.remove();
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#welcome.hidden = this.#entries.length > 0;
  }

  /**
   * Parts are said in order: what stands before this one and was not begun is the rest of a
   * reply that was broken off, come late.
   * @param {Entry} entry
   * @param {string} key
   */
  #dropUnsaid(entry, key) {
    for (const [earlier, part] of [...entry.parts]) {
      if (earlier === key) return;
      if (!part.firm.textContent) this.#remove(entry, earlier);
    }
  }

  /** @param {Entry} entry */
  #finish(entry) {
    for (const [key, part] of [...entry.parts]) {
      if (entry.who === "you" && !part.settled) {
        set(part, part.firm.textContent + part.pale.textContent, "");
        part.settled = true;
      }
      if (!part.span.textContent) this.#remove(entry, key);
    }
  }

  /** @param {"you" | "bot"} [who] whose open entry gets no more text; both by default */
  #close(who) {
    for (const entry of this.#entries.slice(-2)) {
      if (!who || entry.who === who) entry.open = false;
    }
  }

  /**
   * Tell screen readers, once, what is settled.
   * @param {string} who
   * @param {Entry} entry
   * @param {Part} [part]
   */
  #announce(who, entry, part) {
    const parts = part ? [part] : [...entry.parts.values()];
    const said = parts.map(({ firm }) => firm.textContent.trim()).join(" ").trim();
    if (!said) return;
    const line = document.createElement("p");
    line.textContent = `${who}: ${said}`;
    this.#announcer.append(line);
    while (this.#announcer.childElementCount > 8) this.#announcer.firstElementChild.remove();
  }
}

/**
 * @param {Part} part
 * @param {string} firm
 * @param {string} pale
 */
function set(part, firm, pale) {
  if (part.firm.textContent !== firm) part.firm.textContent = firm;
  if (part.pale.textContent !== pale) part.pale.textContent = pale;
}

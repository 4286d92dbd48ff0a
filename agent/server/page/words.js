// The words: one line an utterance, pale while it may still change, solid once it is final.

import { EndFollower } from "./scroll.js";

const KEPT = 1_000; // lines; older ones leave the page
const DOUBTFUL = 0.5; // probability of a word below which it is marked

/**
 * A line of the page.
 * @typedef {object} Line
 * @property {HTMLElement} item
 * @property {HTMLElement} time
 * @property {HTMLElement} text
 * @property {HTMLElement} took
 * @property {number} start_s from the beginning of the page's first sound
 * @property {number} end_s
 * @property {boolean} timed whether these are known
 * @property {boolean} settled
 */

export class Words {
  #list;
  #welcome;
  #scroll;
  #announcer;
  #onChange;
  /** @type {Line[]} */
  #lines = [];
  /** @type {Map<number, Line>} of this stream, by their numbers */
  #open = new Map();
  #offset_s = 0; // where this stream begins
  #end_s = 0;

  /** @param {{scroller: HTMLElement, list: HTMLElement, welcome: HTMLElement, jump: HTMLElement, announcer: HTMLElement, onChange: () => void}} options */
  constructor({ scroller, list, welcome, jump, announcer, onChange }) {
    this.#list = list;
    this.#welcome = welcome;
    this.#scroll = new EndFollower(scroller, jump);
    this.#announcer = announcer;
    this.#onChange = onChange;
  }

  /** Whether somebody speaks: an utterance has words and no final. */
  get speaking() {
    return this.#open.size > 0;
  }

  /** A new stream begins: its numbers start again, its times go on from the last one's. */
  begin() {
    this.end();
    this.#offset_s = this.#end_s;
  }

  /** The stream is over: what has no final is left as it is. */
  end() {
    for (const line of this.#open.values()) this.#settle(line);
    this.#open.clear();
  }

  /**
   * Show what the server says.
   * @param {import("./stream.js").Transcription} transcription
   * @returns {string | null} the time beside the words, if there are any
   */
  add({ is_final, transcription_num, segments, language_code, pipeline_latency }) {
    const sure = segments.filter((segment) => !segment.possible_hallucination && segment.text.trim());
    let line = this.#open.get(transcription_num);
    if (!sure.length) {
      if (is_final && line) {
        // The words are taken back: nobody said them.
        this.#open.delete(transcription_num);
        this.#remove(line);
      }
      return null;
    }
    if (!line) {
      line = this.#line();
      if (!is_final) this.#open.set(transcription_num, line);
    }
    line.start_s = this.#offset_s + sure[0].start_time;
    line.end_s = this.#offset_s + sure[sure.length - 1].end_time;
    line.timed = true;
    this.#end_s = Math.max(this.#end_s, line.end_s);
    line.time.textContent = clock(line.start_s);
    if (language_code) line.text.lang = language_code;
    line.text.replaceChildren(
      ...sure.flatMap((segment, index) => [...(index ? [" "] : []), ...marked(segment)]),
    );
    if (is_final) {
      this.#open.delete(transcription_num);
      this.#settle(line);
      if (pipeline_latency !== null) line.took.textContent = `${Math.round(1000 * pipeline_latency)} ms`;
    }
    this.#scroll.follow();
    return line.time.textContent;
  }

  /**
   * A recording's words come.
   * @param {string} name the file's
   */
  recording(name) {
    const line = this.#line();
    line.item.classList.add("recording");
    line.took.textContent = name;
    line.text.textContent = "…";
    let words = "";
    return {
      /** @param {string} delta */
      more: (delta) => {
        words += delta;
        line.text.textContent = words.trim() || "…";
        this.#scroll.follow();
      },
      /** @param {string} [text] all of it; without it what came so far stays */
      done: (text = words) => {
        line.text.textContent = text.trim();
        if (text.trim()) this.#settle(line);
        else this.#remove(line);
        this.#scroll.follow();
      },
    };
  }

  /** Take everything off the page that is final. */
  clear() {
    for (const line of this.#lines.filter(({ settled }) => settled)) this.#remove(line);
  }

  /** What is final, in order: `start_s` and `end_s` are null where nobody said them. */
  transcript() {
    return this.#lines
      .filter(({ settled }) => settled)
      .map(({ text, timed, start_s, end_s }) => ({
        text: text.textContent ?? "",
        start_s: timed ? start_s : null,
        end_s: timed ? end_s : null,
      }));
  }

  /** @returns {Line} */
  #line() {
    const item = document.createElement("li");
    item.className = "line pale";
    const [time, text, took] = ["time", "p", "span"].map((tag) => document.createElement(tag));
    time.className = "when";
    text.className = "text";
    took.className = "took";
    item.append(time, text, took);
    this.#list.append(item);
    const line = { item, time, text, took, start_s: 0, end_s: 0, timed: false, settled: false };
    this.#lines.push(line);
    while (this.#lines.length > KEPT) this.#remove(this.#lines[0]);
    this.#welcome.hidden = true;
    return line;
  }

  /** @param {Line} line */
  #settle(line) {
    line.settled = true;
    line.item.classList.remove("pale");
    const told = document.createElement("p");
    told.textContent = line.text.textContent;
    this.#announcer.append(told);
    while (this.#announcer.childElementCount > 8) this.#announcer.firstElementChild?.remove();
    this.#onChange();
  }

  /** @param {Line} line */
  #remove(line) {
    line.item.remove();
    this.#lines.splice(this.#lines.indexOf(line), 1);
    this.#welcome.hidden = this.#lines.length > 0;
    this.#onChange();
  }
}

/**
 * A segment's text, its doubtful words marked.
 * @param {import("./stream.js").Transcription["segments"][number]} segment
 * @returns {(string | HTMLElement)[]}
 */
function marked({ text, word_timestamps }) {
  const pieces = [];
  let [from, next] = [0, 0]; // what is not in a piece yet, and where the next word is looked for
  for (const { word, prob } of word_timestamps) {
    const at = text.indexOf(word, next);
    if (at < 0) continue;
    next = at + word.length;
    if (prob === null || prob >= DOUBTFUL) continue;
    const doubtful = document.createElement("span");
    doubtful.className = "doubtful";
    doubtful.title = `Doubtful: ${Math.round(100 * prob)} %`;
    doubtful.textContent = word;
    pieces.push(text.slice(from, at), doubtful);
    from = next;
  }
  return [...pieces, text.slice(from)].filter((piece) => piece !== "");
}

/**
 * @param {number} seconds
 * @returns {string} as minutes and seconds, with hours where there are any
 */
function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

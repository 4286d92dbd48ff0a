// The captions of a call as a file: text, SubRip, WebVTT or JSON, made here, from what the page
// was told, so that it works during the call and after it.

const TYPES = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };

/**
 * What the bot tells of an utterance once it is final.
 * @typedef {object} Cues
 * @property {number} utterance
 * @property {string | null} language of the text
 * @property {{start_s: number, end_s: number, text: string, words: any[]}[]} segments
 * @property {{start_ms: number, end_ms: number, lines: string[]}[]} cues
 */

export class Export {
  #elements;
  #began = new Date();
  #turn = 1;
  /** @type {Map<number, number>} turn of each utterance */
  #turns = new Map();
  /** @type {Cues[]} */
  #said = [];

  /** @param {{group: HTMLElement, format: HTMLSelectElement, save: HTMLButtonElement}} elements */
  constructor(elements) {
    this.#elements = elements;
    elements.save.addEventListener("click", () => this.#save());
  }

  /** A new call begins; what the last one said can no longer be saved. */
  begin() {
    this.#began = new Date();
    this.#turn = 1;
    this.#turns.clear();
    this.#said = [];
    this.#elements.group.hidden = true;
  }

  /**
   * An utterance has a caption: it belongs to the turn under way.
   * @param {{utterance: number}} caption
   */
  caption({ utterance }) {
    if (!this.#turns.has(utterance)) this.#turns.set(utterance, this.#turn);
  }

  turnEnded() {
    this.#turn += 1;
  }

  /** @param {Cues} cues */
  add(cues) {
    this.caption(cues);
    this.#said.push(cues);
    this.#elements.group.hidden = false;
  }

  /** @param {string} format */
  text(format) {
    if (format === "srt") return this.#cues(",", (number) => `${number}\n`).join("\n");
    if (format === "vtt") return `WEBVTT\n\n${this.#cues(".", () => "").join("\n")}`;
    if (format === "json") return this.#json();
    return this.#byTurn().map((said) => `${said.map(textOf).join(" ")}\n`).join("");
  }

  /**
   * @param {string} point before the milliseconds
   * @param {(number: number) => string} head
   */
  #cues(point, head) {
    return this.#said
      .flatMap(({ cues }) => cues)
      .map(({ start_ms, end_ms, lines }, index) => {
        const escaped = lines.map((line) => (point === "." ? escape(line) : line.replaceAll("-->", "->")));
        return `${head(index + 1)}${clock(start_ms, point)} --> ${clock(end_ms, point)}\n${escaped.join("\n")}\n`;
      });
  }

  #json() {
    const segments = this.#byTurn().flatMap((said, index) =>
      said.flatMap((one) =>
        one.segments.map(({ words, ...segment }) => ({
          ...segment,
          turn: index + 1,
          language: one.language,
          ...(words.length ? { words } : {}),
        })),
      ),
    );
    return `${JSON.stringify({ began: this.#began.toISOString(), segments }, null, 1)}\n`;
  }

  /** @returns {Cues[][]} */
  #byTurn() {
    /** @type {Map<number, Cues[]>} */
    const turns = new Map();
    for (const said of this.#said) {
      const turn = this.#turns.get(said.utterance) ?? 0;
      turns.set(turn, [...(turns.get(turn) ?? []), said]);
    }
    return [...turns.values()];
  }

  #save() {
    const format = this.#elements.format.value;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.text(format)], { type: `${TYPES[format]};charset=utf-8` }));
    link.download = `captions-${this.#began.toISOString().slice(0, 19).replaceAll(":", "-")}.${format}`;
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

/** @param {Cues} said */
function textOf({ segments }) {
  return segments.map(({ text }) => text).join(" ");
}

/** @param {string} line */
function escape(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/**
 * @param {number} milliseconds
 * @param {string} point
 */
function clock(milliseconds, point) {
  const [hours, minutes, seconds] = [3_600_000, 60_000, 1000].map((unit, index) =>
    String(Math.floor(milliseconds / unit) % (index ? 60 : 1e6)).padStart(2, "0"),
  );
  return `${hours}:${minutes}:${seconds}${point}${String(milliseconds % 1000).padStart(3, "0")}`;
}

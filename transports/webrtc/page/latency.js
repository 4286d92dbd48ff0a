// Response times: every turn as a bar of its parts, and the latest one in figures.

const KEPT = 500;
const SHORTEST_SCALE_MS = 600;

/** What a part is called on the page, in the order of the way through the bot. */
const PARTS = new Map([
  ["stop", "Noticing the pause"],
  ["final", "Transcript"],
  ["turn", "End of the turn"],
  ["first-token", "First word of the reply"],
  ["first-audio", "Voice"],
  ["first-packet", "Sending"],
]);

/**
 * What is counted besides, and how it reads for a number.
 * @type {[string, (count: number) => string][]}
 */
const COUNTS = [
  ["eager_used", (count) => `${count} ${count === 1 ? "reply" : "replies"} begun early`],
  ["eager_discarded", (count) => `${count} begun in vain`],
  ["barge_ins", (count) => `${count} ${count === 1 ? "interruption" : "interruptions"}`],
  ["false_alarms", (count) => `${count} false ${count === 1 ? "alarm" : "alarms"}`],
  ["backchannels", (count) => `${count} ${count === 1 ? "backchannel" : "backchannels"}`],
];

export class Latency {
  #elements;
  /** @type {{total: number, item: HTMLElement, bar: HTMLElement}[]} */
  #turns = [];
  /** @type {string[]} */
  #unknown = [];

  /** @param {{empty: HTMLElement, body: HTMLElement, latest: HTMLElement, note: HTMLElement, counts: HTMLElement, legend: HTMLElement, turns: HTMLElement, toggle: HTMLElement}} elements */
  constructor(elements) {
    this.#elements = elements;
  }

  /** @param {{turn: number, parts: {name: string, ms: number}[], total_ms: number, eager_ms?: number | null}} turn */
  add({ turn, parts, total_ms, eager_ms }) {
    const { empty, body, latest, note, turns, toggle } = this.#elements;
    empty.hidden = true;
    toggle.hidden = false;
    body.hidden = false;
    latest.textContent = String(Math.round(total_ms));
    toggle.textContent = `${Math.round(total_ms)} ms`;
    toggle.setAttribute("aria-label", `Response times, latest ${Math.round(total_ms)} milliseconds`);

    const item = document.createElement("li");
    const name = document.createElement("span");
    name.className = "turn-name";
    name.textContent = `Turn ${turn}`;
    const total = document.createElement("span");
    total.className = "turn-total";
    total.textContent = `${Math.round(total_ms)} ms`;
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    const described = [];
    for (const { name: part, ms } of parts) {
      const piece = document.createElement("span");
      piece.className = "piece";
      piece.dataset.part = String(this.#shade(part));
      piece.style.flexGrow = String(Math.max(ms, 0));
      piece.title = `${PARTS.get(part) ?? part}: ${Math.round(ms)} ms`;
      described.push(piece.title);
      bar.append(piece);
    }
    if (typeof eager_ms === "number") {
      described.push(`Reply begun ${Math.round(eager_ms)} ms before the end of the turn`);
      name.textContent += ", begun early";
      name.title = described.at(-1);
    }
    const words = document.createElement("span");
    words.className = "unseen";
    words.textContent = described.join(", ");
    item.append(name, total, bar, words);
    turns.prepend(item);
    this.#turns.push({ total: total_ms, item, bar });
    while (this.#turns.length > KEPT) this.#turns.shift().item.remove();

    const totals = this.#turns.map((one) => one.total).sort((a, b) => a - b);
    const half = totals.length / 2;
    const middle = (totals[Math.ceil(half) - 1] + totals[Math.floor(half)]) / 2;
    note.textContent =
      totals.length > 1
        ? `latest turn; ${Math.round(middle)} ms is the median of ${totals.length}`
        : "latest turn";
    const scale = Math.max(SHORTEST_SCALE_MS, totals.at(-1));
    for (const one of this.#turns) one.bar.style.width = `${(100 * one.total) / scale}%`;
    this.#explain(parts);
  }

  /**
   * Show what happened between the speakers in this call so far.
   * @param {{[name: string]: number}} counts
   */
  count(counts) {
    const { counts: line } = this.#elements;
    line.textContent = COUNTS.filter(([name]) => counts[name])
      .map(([name, read]) => read(counts[name]))
      .join(", ");
    line.hidden = !line.textContent;
  }

  /** @param {{name: string, ms: number}[]} parts */
  #explain(parts) {
    const rows = parts.map(({ name, ms }) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.dataset.part = String(this.#shade(name));
      swatch.setAttribute("aria-hidden", "true");
      term.append(swatch, PARTS.get(name) ?? name);
      const figure = document.createElement("dd");
      figure.textContent = `${Math.round(ms)} ms`;
      row.append(term, figure);
      return row;
    });
    this.#elements.legend.replaceChildren(...rows);
  }

  /** @param {string} name */
  #shade(name) {
    const known = [...PARTS.keys()].indexOf(name);
    if (known >= 0) return known;
    if (!this.#unknown.includes(name)) this.#unknown.push(name);
    return (PARTS.size + this.#unknown.indexOf(name)) % 8;
  }
}

// Response times: how long each final took, as the server says, and what is usual.

const KEPT = 500;
const SHORTEST_SCALE_MS = 500;

export class Latency {
  #elements;
  /** @type {{ms: number, pause_ms: number, item: HTMLElement, bar: HTMLElement}[]} */
  #finals = [];

  /** @param {{empty: HTMLElement, body: HTMLElement, latest: HTMLElement, median: HTMLElement, p95: HTMLElement, after: HTMLElement, count: HTMLElement, bars: HTMLElement, toggle: HTMLElement}} elements */
  constructor(elements) {
    this.#elements = elements;
  }

  /**
   * @param {number} ms
   * @param {number} pause_ms as asked for: the server waits that long in any case
   * @param {string} at when it was said, as shown beside the words
   */
  add(ms, pause_ms, at) {
    const { empty, body, latest, median, p95, after, count, bars, toggle } = this.#elements;
    empty.hidden = true;
    body.hidden = false;
    latest.textContent = String(Math.round(ms));
    toggle.textContent = `${Math.round(ms)} ms`;
    toggle.setAttribute("aria-label", `Response times and settings, latest ${Math.round(ms)} milliseconds`);

    const item = document.createElement("li");
    const [name, figure, bar] = ["bar-name", "bar-total", "bar"].map((kind) => {
      const element = document.createElement("span");
      element.className = kind;
      return element;
    });
    name.textContent = at;
    figure.textContent = `${Math.round(ms)} ms`;
    bar.setAttribute("aria-hidden", "true");
    item.append(name, bar, figure);
    bars.prepend(item);
    this.#finals.push({ ms, pause_ms, item, bar });
    while (this.#finals.length > KEPT) this.#finals.shift()?.item.remove();

    const sorted = ascending(this.#finals.map((one) => one.ms));
    const beyond = ascending(this.#finals.map((one) => Math.max(0, one.ms - one.pause_ms)));
    median.textContent = `${Math.round(quantile(sorted, 0.5))} ms`;
    p95.textContent = `${Math.round(quantile(sorted, 0.95))} ms`;
    after.textContent = `${Math.round(quantile(beyond, 0.5))} ms`;
    count.textContent = String(sorted.length);
    const scale = Math.max(SHORTEST_SCALE_MS, sorted.at(-1) ?? 0);
    for (const one of this.#finals) {
      one.bar.style.setProperty("--part", (one.ms / scale).toFixed(3));
      one.bar.style.setProperty("--pause", Math.min(1, one.pause_ms / one.ms).toFixed(3));
    }
  }
}

/** @param {number[]} values */
function ascending(values) {
  return values.sort((a, b) => a - b);
}

/**
 * Between the two nearest values, in proportion.
 * @param {number[]} sorted
 * @param {number} part
 */
function quantile(sorted, part) {
  const place = part * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return below + (above - below) * (place % 1);
}

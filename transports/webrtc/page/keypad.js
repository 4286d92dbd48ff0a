// The keys of a telephone: on the page, and those of the keyboard.

const KEYS = "123456789*0#";
const SHOWN = 16; // keys that were pressed last

export class Keypad {
  #toggle;
  #pad;
  #pressed;
  #press;

  /**
   * @param {{toggle: HTMLButtonElement, pad: HTMLElement}} elements
   * @param {(key: string) => boolean} press what a key does, and whether it could
   */
  constructor({ toggle, pad }, press) {
    this.#toggle = toggle;
    this.#pad = pad;
    this.#press = press;
    this.#pressed = document.createElement("output");
    this.#pressed.className = "pressed";
    pad.append(this.#pressed);
    for (const key of KEYS) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "key-button";
      button.textContent = key;
      if (key === "*") button.ariaLabel = "Star";
      if (key === "#") button.ariaLabel = "Hash";
      button.addEventListener("click", () => this.#send(key));
      pad.append(button);
    }
    toggle.addEventListener("click", () => this.#open(pad.hidden));
    document.addEventListener("keydown", (event) => this.#typed(event));
    this.enable(false);
  }

  /** @param {boolean} enabled whether there is somebody who hears keys */
  enable(enabled) {
    if (this.#toggle.disabled !== enabled) return;
    this.#toggle.disabled = !enabled;
    this.#pressed.textContent = "";
    if (!enabled) this.#open(false);
  }

  /** @param {boolean} open */
  #open(open) {
    this.#pad.hidden = !open;
    this.#toggle.setAttribute("aria-expanded", String(open));
  }

  /** @param {KeyboardEvent} event */
  #typed(event) {
    if (this.#toggle.disabled || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest("select, input, textarea")) return;
    if (event.key === "Escape" && !this.#pad.hidden) {
      this.#open(false);
      this.#toggle.focus();
    } else if (event.key.length === 1 && KEYS.includes(event.key)) {
      this.#send(event.key);
    }
  }

  /** @param {string} key */
  #send(key) {
    if (!this.#press(key)) return;
    this.#pressed.textContent = (this.#pressed.textContent + key).slice(-SHOWN);
  }
}

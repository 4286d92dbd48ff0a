// The settings' form: filled from the last visit, read in the units of the protocol.

const REMEMBERED = "talkpath.settings";

// All that Whisper knows; the browser knows their names.
const LANGUAGES =
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh".split(" ");

// Of these Chromium has no names, and "jw" is Whisper's own.
const NAMES = { ba: "Bashkir", bo: "Tibetan", jw: "Javanese" };

/** @param {string} code */
function languageName(code) {
  return NAMES[code] ?? new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code;
}

export class Settings {
  #form;

  /**
   * @param {HTMLFormElement} form
   * @param {() => void} onChange
   */
  constructor(form, onChange) {
    this.#form = form;
    this.languages("");
    this.#restore();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => {
      if (target instanceof HTMLInputElement && target.type === "number") settle(target);
      this.#remember();
      onChange();
    });
  }

  /**
   * Offer the languages that a model knows.
   * @param {string} model its name; those of the English models end in ".en"
   */
  languages(model) {
    const select = this.#form.elements.language;
    const wanted = select.value;
    const english = model.endsWith(".en");
    const named = (english ? ["en"] : LANGUAGES).map((code) => ({ code, name: languageName(code) }));
    named.sort((a, b) => a.name.localeCompare(b.name, "en"));
    const options = named.map(({ code, name }) => new Option(name, code));
    select.replaceChildren(...(english ? [] : [new Option("Detect it", "auto")]), ...options);
    select.value = wanted;
    if (!select.value) select.selectedIndex = 0;
  }

  /** @returns {{language: string, partials: boolean, interval_s: number, silence_ms: number, doubts: boolean, denoise: boolean}} */
  read() {
    const { language, partials, interval_s, silence_ms, doubts, denoise } = this.#form.elements;
    for (const field of [interval_s, silence_ms]) settle(field);
    return {
      language: language.value,
      partials: partials.checked,
      interval_s: interval_s.valueAsNumber,
      silence_ms: silence_ms.valueAsNumber,
      doubts: doubts.checked,
      denoise: denoise.checked,
    };
  }

  #remember() {
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.read()));
    } catch {
      // Storage is switched off: the settings last as long as the page.
    }
  }

  #restore() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}");
    } catch {
      // Storage is switched off, or has something else.
    }
    for (const [name, value] of Object.entries(kept ?? {})) {
      const field = this.#form.elements[name];
      if (!field) continue;
      if (field.type === "checkbox") field.checked = value === true;
      else if (field.type === "number" || [...field.options].some((one) => one.value === value)) field.value = String(value);
    }
  }
}

/** @param {HTMLInputElement} field a number: the nearest that it may be, or what it was first */
function settle(field) {
  const { min, max, defaultValue } = field;
  const wanted = Number.isFinite(field.valueAsNumber) ? field.valueAsNumber : Number(defaultValue);
  field.value = String(Math.min(Number(max), Math.max(Number(min), wanted)));
}

// The transcript, to take away: on the clipboard, as text, as subtitles.

/** @typedef {{text: string, start_s: number | null, end_s: number | null}} Spoken */

/** @param {Spoken[]} lines */
export function asText(lines) {
  return lines.map(({ text }) => `${text}\n`).join("");
}

/**
 * SubRip subtitles of the lines whose times are known.
 * @param {Spoken[]} lines
 */
export function asSubtitles(lines) {
  return lines
    .filter(({ start_s }) => start_s !== null)
    .map(({ text, start_s, end_s }, index) => `${index + 1}\n${stamp(start_s)} --> ${stamp(end_s)}\n${text}\n`)
    .join("\n");
}

/** @param {number} seconds */
function stamp(seconds) {
  const ms = Math.round(1000 * seconds);
  const [hours, minutes, rest] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  const padded = [hours, minutes, rest].map((part) => String(part).padStart(2, "0")).join(":");
  return `${padded},${String(ms % 1000).padStart(3, "0")}`;
}

/**
 * @param {string} name of the file
 * @param {string} text
 */
export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Put text on the clipboard.
 * @param {string} text
 * @returns {Promise<boolean>} whether the browser did
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without https have no such clipboard; the older way still works there.
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}

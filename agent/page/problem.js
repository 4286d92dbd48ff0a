// The strip that says what is wrong, or what came of it all.

/** @param {string} id */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Say what is wrong, with a way back.
 * @param {string} text
 * @param {string} action what the button says
 * @param {() => void} act
 */
export function complain(text, action, act) {
  show(text, "alarm");
  $("problem-action").textContent = action;
  $("problem-action").onclick = () => {
    $("problem").hidden = true;
    act();
  };
  $("problem-action").hidden = false;
}

/**
 * Say what is as it should be, and nothing is to be done about.
 * @param {string} text
 */
export function mention(text) {
  show(text, "calm");
  $("problem-action").hidden = true;
}

/**
 * @param {string} text
 * @param {"alarm" | "calm"} tone
 */
function show(text, tone) {
  $("problem").dataset.tone = tone;
  $("problem-text").textContent = text;
  $("problem").hidden = false;
}

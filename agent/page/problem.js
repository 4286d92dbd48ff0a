// The strip that says what is wrong.

/** @param {string} id */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Say what is wrong, with a way back.
 * @param {string} text
 * @param {string} action what the button says
 * @param {() => void} act
 */
export function complain(text, action, act) {
  $("problem-text").textContent = text;
  $("problem-action").textContent = action;
  $("problem-action").onclick = () => {
    $("problem").hidden = true;
    act();
  };
  $("problem").hidden = false;
}

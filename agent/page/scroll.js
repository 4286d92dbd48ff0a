// A list that grows at its end: it shows the newest, unless somebody scrolled up to read.

const NEAR_END_PX = 64;

export class EndFollower {
  #scroller;
  #jump;
  #following = true;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} jump the button that leads back to the end, hidden while that is in view
   */
  constructor(scroller, jump) {
    this.#scroller = scroller;
    this.#jump = jump;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.follow()).observe(scroller);
    jump.addEventListener("click", () => {
      this.#following = true;
      this.follow();
      scroller.focus();
    });
  }

  /** Something was added or changed. */
  follow() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#jump.hidden = false;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.#jump.hidden = this.#following;
  }
}

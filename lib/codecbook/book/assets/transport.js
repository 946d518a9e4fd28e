// What all widgets of sound share: elements, one style, and the part that plays.

const STYLE = `
.cb-sound { border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 8px;
  padding: .9em 1.1em; margin: 1em 0; max-width: 54rem; line-height: 1.45; font-size: .95em; box-sizing: border-box; }
.cb-sound :is(p, fieldset) { margin: .4em 0; }
.cb-sound [hidden] { display: none !important; }
.cb-title { font-weight: 600; }
.cb-hint { font-size: .88em; opacity: .85; }
.cb-row { display: flex; flex-wrap: wrap; gap: .45em .7em; align-items: center; margin: .55em 0; }
.cb-sound fieldset { border: 0; padding: 0; min-width: 0; display: flex; flex-wrap: wrap; gap: .35em; align-items: center; }
.cb-sound legend { float: left; padding: 0; margin-right: .6em; min-width: 6em; font-size: .9em; }
.cb-sound :is(button, select, .cb-option span, input[type=text]) { font: inherit; font-size: .93em; color: inherit;
  background-color: color-mix(in srgb, currentColor 6%, transparent); border: 1px solid color-mix(in srgb, currentColor 34%, transparent);
  border-radius: 6px; padding: .25em .75em; min-height: 2em; box-sizing: border-box; }
.cb-sound select option { color: CanvasText; background: Canvas; }
.cb-sound button, .cb-option span { cursor: pointer; }
.cb-sound button:disabled { opacity: .5; cursor: default; }
.cb-option { position: relative; display: inline-block; max-width: 100%; }
.cb-option input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer; width: 100%; height: 100%; }
.cb-option span { display: inline-block; }
.cb-option input:checked + span, .cb-sound button[aria-pressed="true"] { background: #00629b; border-color: #00629b; color: #fff; }
.cb-sound :is(button, select, input, .cb-picture):focus-visible, .cb-option input:focus-visible + span {
  outline: 2px solid #3c96d0; outline-offset: 2px; }
.cb-picture { position: relative; cursor: crosshair; touch-action: pan-y; margin: .6em 0; overflow: hidden; border-radius: 4px;
  background: color-mix(in srgb, currentColor 5%, transparent); }
.cb-picture canvas { display: block; width: 100%; height: 11.5em; }
.cb-picture canvas.cb-flat { height: 3.2em; }
.cb-cursor { position: absolute; top: 0; bottom: 0; width: 2px; background: #f0e442; box-shadow: 0 0 0 1px #0009; pointer-events: none; }
.cb-region { position: absolute; top: 0; bottom: 0; background: #56b4e93d; border: solid #56b4e9; border-width: 0 2px; pointer-events: none; }
.cb-sound [role=status] { font-variant-numeric: tabular-nums; }
.cb-detail { overflow-x: auto; }
.cb-rate { display: grid; grid-template-columns: 7.5em minmax(6em, 1fr) 2.5em; gap: .3em .8em; align-items: center; margin: .4em 0; }
.cb-rate input { width: 100%; accent-color: #00629b; }
.cb-scale { font-size: .78em; grid-template-columns: 9.5em repeat(5, 1fr) 3.2em; column-gap: 0; text-align: center; }
.cb-sound table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.cb-sound :is(td, th) { text-align: left; padding: .2em .8em .2em 0; }
@media print { .cb-sound :is(button, select, .cb-hint, .cb-level) { display: none; } }
`;

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children); // text stays text
  return node;
}

const signed = (value, digits = 1) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
const fromDb = (db) => 10 ** (db / 20);

/** Make the frame of a widget, in which digits and letters are its own and not JupyterLab's. */
function frame(el, kind, title) {
  const root = element("section", { class: `cb-sound cb-${kind}`, "aria-label": title || "Player" });
  root.dataset.lmSuppressShortcuts = "true";
  root.append(element("style", {}, STYLE));
  if (title) root.append(element("p", { class: "cb-title" }, title));
  el.replaceChildren(root);
  return root;
}

/** Call a function for keys that are pressed in a widget, but not while something is typed or chosen from a list. */
function onKeys(root, press) {
  root.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=text], select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (press(event.key) !== false) event.preventDefault();
  });
}

/** A button that plays and pauses, the picture with its loop, and a line that says what is the matter. */
class Transport {
  constructor(root, content, data, options = {}) {
    this.engine = new Engine({ rate: content.rate, seconds: content.seconds, data });
    this.picture = new Picture(this.engine, { peak: content.peak, ...options });
    this.button = element("button", { type: "button" }, "Play");
    this.whole = element("button", { type: "button", hidden: "" }, "Whole clip");
    this.status = element("p", { role: "status", class: "cb-status" });
    this.root = root;
    this.timer = 0;
    this.onPlay = () => {};
    this.onTick = () => {};
    this.button.addEventListener("click", () => this.toggle());
    this.whole.addEventListener("click", () => this.setLoop(0, this.engine.frames));
    const stopped = () => this.refresh();
    document.addEventListener("codecbook-play", stopped);
    this.close = () => {
      document.removeEventListener("codecbook-play", stopped);
      cancelAnimationFrame(this.timer);
      this.engine.close();
    };
  }

  async toggle() {
    const { engine } = this;
    try {
      if (engine.playing) engine.stop();
      else await engine.play();
      this.status.textContent = "";
      if (engine.playing) this.onPlay();
    } catch (error) {
      this.status.textContent = `${error.message}`;
    }
    this.refresh();
    return engine.playing;
  }

  refresh() {
    const { engine } = this;
    this.button.textContent = engine.playing ? "Pause" : "Play";
    this.whole.hidden = engine.loop[1] - engine.loop[0] === engine.frames;
    this.picture.place();
    if (engine.playing && !this.timer) this.tick();
  }

  tick() {
    this.picture.place();
    this.whole.hidden = this.picture.region.hidden;
    this.onTick();
    this.timer = this.engine.playing ? requestAnimationFrame(() => this.tick()) : 0;
  }

  setLoop(from, to) {
    this.engine.setLoop(from, to);
    this.refresh();
  }

  /** Act on a key; return false for one that means nothing here. */
  press(key) {
    const [start, end] = this.engine.loop;
    const now = this.engine.at();
    if (key === "0" || key === "p") this.toggle();
    else if (key === "[") this.setLoop(now, end > now ? end : this.engine.frames);
    else if (key === "]") this.setLoop(start, now);
    else if (key === "Escape") this.setLoop(0, this.engine.frames);
    else if (key === " " && document.activeElement === this.picture.root) this.toggle();
    else return false;
    return true;
  }

  static keys = "0 plays and pauses, [ and ] set the ends of a loop and Escape clears them, arrows on the picture move.";
}

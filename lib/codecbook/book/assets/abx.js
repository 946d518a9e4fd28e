// A/B/X listening test. One file for two places: JupyterLab loads it as an anywidget module, a static report
// inlines it beside a small stand-in for the widget's model. It needs nothing but Web Audio.
//
// model: get(name), set(name, value), on(event, callback), off(event, callback), save_changes()
//   "title"   what is compared
//   "clips"   [{label, data}], reference, A, B in this order; data is base64 text or a DataView of an audio file
//   "trials"  number of trials
//   "votes"   [{x, vote, correct}], grows by one per trial

const STYLE = `
.abx { border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 8px;
  padding: 1em 1.2em; margin: 1em 0; max-width: 46em; line-height: 1.5; font-size: 0.95em; }
.abx p.abx-title { font-weight: 600; }
.abx p { margin: .3em 0; }
.abx .abx-hint { opacity: .78; font-size: .9em; }
.abx .abx-row { display: flex; flex-wrap: wrap; gap: .5em; margin: .7em 0; }
.abx button { font: inherit; color: inherit; background: color-mix(in srgb, currentColor 6%, transparent);
  border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: 6px; padding: .4em .9em;
  cursor: pointer; min-width: 3.2em; }
.abx button:hover:not(:disabled) { background: color-mix(in srgb, currentColor 14%, transparent); }
.abx button:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
.abx button:disabled { opacity: .45; cursor: default; }
.abx button[aria-pressed="true"] { background: #0072b2; border-color: #0072b2; color: #fff; font-weight: 600; }
.abx progress { width: 100%; height: .5em; accent-color: #0072b2; }
.abx .abx-status { font-variant-numeric: tabular-nums; }
`;

/** One-sided binomial p-value: the chance of at least `correct` of `n` by guessing. */
export function pValue(correct, n) {
  let term = Math.pow(0.5, n); // P(exactly n correct), then downwards by the ratio of neighbours
  let sum = 0;
  for (let k = n; k >= correct; k--) {
    sum += term;
    term *= k / (n - k + 1);
  }
  return Math.min(1, sum);
}

function toArrayBuffer(data) {
  if (typeof data === "string") {
    return Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer;
  }
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
}

function randomBit() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1;
}

/** Plays all clips in step on one clock; switching changes gains only, so there is no gap and no click. */
class Player {
  constructor(clips) {
    this.clips = clips;
    this.context = null;
    this.sources = null;
    this.position = 0;
    this.audible = 0;
  }

  async prepare() {
    if (this.context) return;
    this.context = new AudioContext();
    // decodeAudioData takes its buffer away, so it gets one of its own
    this.buffers = await Promise.all(
      this.clips.map((clip) => this.context.decodeAudioData(toArrayBuffer(clip.data))),
    );
    this.duration = Math.max(...this.buffers.map((buffer) => buffer.duration));
    this.gains = this.buffers.map(() => {
      const gain = new GainNode(this.context, { gain: 0 });
      gain.connect(this.context.destination);
      return gain;
    });
  }

  get playing() {
    return this.sources !== null;
  }

  get time() {
    if (!this.playing) return this.position;
    return (this.position + this.context.currentTime - this.startedAt) % this.duration;
  }

  async play() {
    await this.prepare();
    await this.context.resume();
    if (this.playing) return;
    const at = this.context.currentTime + 0.03;
    this.sources = this.buffers.map((buffer, i) => {
      const source = new AudioBufferSourceNode(this.context, {
        buffer: this.padded(buffer),
        loop: true,
      });
      source.connect(this.gains[i]);
      source.start(at, this.position);
      return source;
    });
    this.startedAt = at;
    this.select(this.audible);
  }

  /** Clips of other lengths get silence at their end, so that all loops stay in step. */
  padded(buffer) {
    const length = Math.round(this.duration * buffer.sampleRate);
    if (buffer.length === length) return buffer;
    const longer = new AudioBuffer({
      length,
      numberOfChannels: buffer.numberOfChannels,
      sampleRate: buffer.sampleRate,
    });
    for (let c = 0; c < buffer.numberOfChannels; c++) longer.copyToChannel(buffer.getChannelData(c), c);
    return longer;
  }

  stop() {
    if (!this.playing) return;
    this.position = this.time;
    for (const source of this.sources) source.stop();
    this.sources = null;
  }

  select(index) {
    this.audible = index;
    if (!this.context) return;
    const now = this.context.currentTime;
    this.gains.forEach((gain, i) => gain.gain.setTargetAtTime(i === index ? 1 : 0, now, 0.006));
  }

  close() {
    this.stop();
    if (this.context) this.context.close();
  }
}

function element(tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

function build(model, el) {
  const clips = model.get("clips");
  const root = element("section", { class: "abx", "aria-label": model.get("title") });
  // JupyterLab would take digits for its own shortcuts
  root.dataset.lmSuppressShortcuts = "true";
  root.append(element("style", {}, STYLE), element("p", { class: "abx-title" }, model.get("title")));
  root.append(
    element("p", {}, `Reference: ${clips[0].label}. A: ${clips[1].label}. B: ${clips[2].label}. X is A or B, drawn anew for every trial.`),
    element("p", { class: "abx-hint" }, "Keys: 0 plays and pauses, 1 to 4 switch between Reference, A, B and X."),
  );
  const listen = element("div", { class: "abx-row", role: "group", "aria-label": "Listen to" });
  const play = element("button", { type: "button" }, "Play");
  const choices = ["Reference", "A", "B", "X"].map((name) =>
    element("button", { type: "button", "aria-pressed": "false" }, name),
  );
  listen.append(play, ...choices);
  const progress = element("progress", { max: "1", value: "0", "aria-label": "Position in the clip" });
  const voting = element("div", { class: "abx-row", role: "group", "aria-label": "Vote" });
  const votes = ["X is A", "X is B"].map((name) => element("button", { type: "button" }, name));
  const restart = element("button", { type: "button" }, "Start again");
  voting.append(...votes, restart);
  const status = element("p", { class: "abx-status", role: "status" });
  root.append(listen, progress, voting, status);
  el.replaceChildren(root);
  return { root, play, choices, progress, votes, restart, status };
}

function statusText(votes, trials) {
  const correct = votes.filter((vote) => vote.correct).length;
  if (votes.length === 0) return `Trial 1 of ${trials}. Listen, then vote.`;
  const score = `${correct} of ${votes.length} correct`;
  if (votes.length < trials) {
    const last = votes[votes.length - 1].correct ? "Right" : "Wrong";
    return `${last}. Trial ${votes.length + 1} of ${trials}; ${score}.`;
  }
  const p = pValue(correct, votes.length);
  const reading = p < 0.05 ? "Guessing would rarely do as well" : "Guessing would do as well often enough";
  return `Done: ${score}, p = ${p < 0.001 ? "< 0.001" : p.toFixed(3)} (binomial, one-sided). ${reading}.`;
}

export function render({ model, el }) {
  const ui = build(model, el);
  const player = new Player(model.get("clips"));
  let x = 1 + randomBit(); // index of the clip that X is: 1 is A, 2 is B
  let chosen = 0;
  let timer = 0;

  function choose(index) {
    chosen = index;
    player.select(index === 3 ? x : index);
    ui.choices.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  }

  function tick() {
    if (player.duration) ui.progress.value = player.time / player.duration;
    timer = player.playing ? requestAnimationFrame(tick) : 0;
  }

  async function toggle() {
    try {
      if (player.playing) player.stop();
      else await player.play();
    } catch (error) {
      ui.status.textContent = `The clips cannot be played here (${error.message}).`;
    }
    ui.play.textContent = player.playing ? "Pause" : "Play";
    if (player.playing && !timer) tick();
  }

  function refresh() {
    const votes = model.get("votes");
    const done = votes.length >= model.get("trials");
    ui.votes.forEach((button) => (button.disabled = done));
    ui.restart.hidden = votes.length === 0;
    ui.status.textContent = statusText(votes, model.get("trials"));
  }

  function vote(index) {
    const cast = { x: x === 1 ? "A" : "B", vote: index === 1 ? "A" : "B", correct: index === x };
    model.set("votes", [...model.get("votes"), cast]);
    model.save_changes();
    x = 1 + randomBit();
    choose(chosen);
  }

  function onKey(event) {
    const digit = ["0", "1", "2", "3", "4"].indexOf(event.key);
    if (digit < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (digit === 0) toggle();
    else choose(digit - 1);
    event.preventDefault();
  }

  ui.play.addEventListener("click", toggle);
  ui.choices.forEach((button, i) => button.addEventListener("click", () => choose(i)));
  ui.votes.forEach((button, i) => button.addEventListener("click", () => vote(i + 1)));
  ui.restart.addEventListener("click", () => {
    model.set("votes", []);
    model.save_changes();
  });
  ui.root.addEventListener("keydown", onKey);
  model.on("change:votes", refresh);
  choose(0);
  refresh();

  return () => {
    model.off("change:votes", refresh);
    cancelAnimationFrame(timer);
    player.close();
  };
}

export default { render };

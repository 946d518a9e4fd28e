// The cell of the matrix that is the reader's own browser, and a place to drop streams on.
//
// model: get("content"): {stream, model, codes: base64 text; rateHz; hashes: {logits, cdf, intervals}, of each step;
//   cells: [[name, program, steps that differ in logits, in CDF rows, in intervals, segments wrong]]}
// Text of a file is shown by textContent alone. Work is cut into slices, between which the page answers.

const SLICE_MS = 20, SHOWN = 60;
const STYLE = `
.here { border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 8px; margin: 1em 0;
  padding: .8em 1.2em; line-height: 1.5; font-size: .95em; }
.here p { margin: .4em 0; overflow-wrap: anywhere; }
.here .row { display: flex; flex-wrap: wrap; align-items: center; gap: .6em; margin: .7em 0; }
.here progress { flex: 1 1 8em; height: .5em; accent-color: #0072b2; }
.here .drop { border: 1.5px dashed color-mix(in srgb, currentColor 40%, transparent); border-radius: 8px;
  padding: .7em 1em; }
.here .drop.over { background: color-mix(in srgb, currentColor 9%, transparent); }
.here :is(button, input) { font: inherit; max-width: 100%; }
.here button:disabled { opacity: .45; cursor: default; }
.here :focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
.here .good { color: var(--good, var(--jp-success-color0, #00714f)); font-weight: 600; }
.here .bad { color: var(--bad, var(--jp-error-color0, #b3261e)); font-weight: 600; }
.here :is(th, td) { padding: .3em .8em; }
.here :is(th, td, caption) { text-align: left; }
.here :is(th, td):not(:last-child) { white-space: nowrap; }
.here .number { text-align: right; }
.here td:last-child:not(.number) { min-width: 12em; }
.here tr.mine > * { font-weight: 650; }
@media print { .here .row, .here .drop { display: none; } }`;

class Stopped extends Error {}

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const kind = (value) => (typeof value === "number" ? { class: "number" } : {});

function tableRow([name, ...values]) {
  const cell = (value) => node("td", kind(value), group(value));
  return node("tr", {}, node("th", { scope: "row" }, group(name)), ...values.map(cell));
}

function table(caption, head, rows) {
  const heads = head.map((name, i) => node("th", { scope: "col", ...(i ? kind(rows[0]?.[i]) : {}) }, name));
  const parts = [node("caption", {}, caption), node("thead", {}, node("tr", {}, ...heads))];
  const made = node("table", {}, ...parts, node("tbody", {}, ...rows.map(tableRow)));
  const scrolls = { class: "codecbook-table scroll", style: "overflow-x:auto", tabindex: "0", role: "group" };
  return node("div", { ...scrolls, "aria-label": caption }, made);
}

const group = (value) => (typeof value === "number" ? value.toLocaleString("en").replaceAll(",", "\u202f") : value);
const plural = (count, word) => `${group(count)} ${word}${count === 1 ? "" : "s"}`;
/** Return text of a file as it may be shown: not too long, without characters that act on others. */
const shown = (text) => text.replace(/[\p{C}\p{Z}]+/gu, " ").slice(0, 120);
const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** Return what this browser says that it and its system are. */
function browserName() {
  const data = navigator.userAgentData, brand = data?.brands.find(({ brand }) => !/Not/.test(brand));
  const [, name, version] = navigator.userAgent.match(/(Firefox|Edg|Chrome|Version)\/(\d+)/) ?? ["", "a browser", ""];
  const browser = brand ? `${brand.brand} ${brand.version}` : `${name === "Version" ? "Safari" : name} ${version}`;
  return `${browser}, ${data?.platform || navigator.platform}`;
}

function build(content, el) {
  const caption = "The exact coder in every cell of the matrix: steps in which its hashes differ from the baseline's";
  const head = ["cell", "program", "logits", "CDF rows", "intervals", "segments wrong"];
  const start = node("button", { type: "button" }, "Decode in this browser");
  const stop = node("button", { type: "button", disabled: "" }, "Stop");
  const progress = node("progress", { max: "1", value: "0", "aria-label": "Progress of decoding" });
  const choose = node("input", { type: "file", accept: ".cbs,.safetensors" });
  const hint = "It is read in this page and goes nowhere. For another language model's, add its model.safetensors.";
  const label = node("label", {}, "Drop a stream (.cbs) here, or choose one: ", choose);
  const drop = node("div", { class: "drop" }, label, node("p", {}, hint));
  const status = node("p", { role: "status" }), verdict = node("p", { role: "status" }), details = node("div");
  const matrix = table(caption, head, content.cells), mine = node("tr");
  matrix.querySelector("tbody").append(mine);
  const section = node("section", { class: "here", "aria-label": "The exact coder in this browser" });
  const row = node("div", { class: "row" }, start, stop, progress);
  section.append(node("style", {}, STYLE), matrix, row, status, drop, verdict, details);
  section.dataset.lmSuppressShortcuts = "true";
  el.replaceChildren(section);
  const setMine = (...counts) => {
    const row = tableRow(["this browser", `JavaScript, ${browserName()}`, ...counts]);
    row.className = "mine";
    matrix.querySelector("tbody").lastChild.replaceWith(row);
  };
  setMine("–", "–", "–", "–");
  return { section, start, stop, progress, choose, drop, status, verdict, details, setMine };
}

export function render({ model, el }) {
  const content = model.get("content"), ui = build(content, el), models = new Map(); // by SHA-256
  let job = null; // what runs now: another one stops it
  let last = null; // the stream that was opened last: a model that comes after it may decode it

  /** Run a generator to its end in slices; another job, or Stop, ends it. */
  async function slices(work, mine, progress = () => 0) {
    for (;;) {
      const end = performance.now() + SLICE_MS;
      let step;
      do {
        step = work.next();
        if (step.done) return step.value;
      } while (performance.now() < end);
      ui.progress.value = progress(step.value);
      await new Promise((resume) => setTimeout(resume));
      if (job !== mine) throw new Stopped();
    }
  }

  /** Do something as the only job, and say in words what came of it. */
  async function alone(line, work) {
    const mine = (job = {}), say = (text, kind = "") => ([line.textContent, line.className] = [text, kind]);
    ui.stop.disabled = false;
    ui.progress.value = 0;
    try {
      say("Reading …");
      say(...(await work(mine)));
    } catch (error) {
      const isKnown = [StreamError, ModelError].some((kind) => error instanceof kind);
      const text = isKnown ? error.message : `This could not be decoded (${error.name}).`;
      if (error instanceof Stopped) say("Stopped.");
      else say(text, "bad");
    }
    if (job === mine || job === null) ui.stop.disabled = true;
    if (job === mine) ui.progress.value = 1;
  }

  function addModel(bytes) {
    const exact = new ExactModel(bytes);
    models.set(exact.sha256, exact);
    return exact;
  }

  /** Decode all segments, and tell of each what is wrong; a generator of the share that is done. */
  function* everySegment(bytes, { header, segments }, evaluator, isLacking, tell, trace) {
    for (const [i, segment] of segments.entries()) {
      let rows = null, problem = "";
      try {
        if (isLacking) problem = problemOf(bytes, segment);
        else rows = yield* decodeSegment(bytes, header, segment, evaluator, trace);
      } catch (error) {
        if (!(error instanceof SegmentError)) throw error;
        problem = error.message;
      }
      tell(segment, problem, rows);
      yield i;
    }
  }

  async function decodeHere(mine) {
    const exact = addModel(bytesOf(content.model)), bytes = bytesOf(content.stream);
    const stream = await slices(openStream(bytes), mine), { header, segments } = stream;
    if (!exact.sha256.startsWith(header.lmSha256)) {
      throw new ModelError("The model in this page is not the one that the stream was made with.");
    }
    const K = header.columns.length, T = header.numRows, codes = new Uint16Array(bytesOf(content.codes).buffer);
    const kinds = ["logits", "cdf", "intervals"].map((kind) => content.hashes[kind]), differing = kinds.map(() => 0);
    let step = 0, any = 0, wrong = header.numSegments - segments.length, hashing = 0, spent = 0;
    const trace = (...arrays) => {
      const since = performance.now();
      const differs = kinds.map((hashes, i) => new Sha256().update(arrays[i]).hex().slice(0, 16) !== hashes[step]);
      differs.forEach((does, i) => (differing[i] += does));
      any += differs.includes(true);
      step++;
      hashing += performance.now() - since;
    };
    const tell = ({ firstRow }, _, rows) => {
      wrong += !rows || rows.some((code, i) => code !== codes[firstRow * K + i]);
    };
    const work = everySegment(bytes, stream, new Evaluator(exact), false, tell, trace);
    const next = () => {
      const since = performance.now(), result = work.next();
      spent += performance.now() - since;
      return result;
    };
    await slices({ next }, mine, () => step / T);
    any += T - step; // those that were not reached
    ui.setMine(...differing, wrong);
    const ms = (spent - hashing) / Math.max(step, 1), times = 1000 / content.rateHz / ms;
    const tokens = wrong
      ? `${wrong} of ${plural(header.numSegments, "segment")} decode wrongly`
      : `all ${plural(T * K, "token")} are those that were sent`;
    const text = `This browser, this machine: ${any} of ${group(T)} steps differ in logits, CDF rows or intervals; ` +
      `${tokens}; ${ms.toFixed(2)} ms a frame, ${times.toFixed(1)} times real time (${browserName()}).`;
    return [text, any || wrong ? "bad" : "good"];
  }

  async function openFile(file, mine) {
    if (file.size > MAX_FILE_BYTES) {
      throw new StreamError(`The file has ${plural(file.size, "byte")}; up to ${group(MAX_FILE_BYTES)} are read here.`);
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (bytes[8] === 0x7b && bytes[0] !== 0x89) {
      const { sha256 } = addModel(bytes);
      return last ? openFile(last, mine) : [`A language model of SHA-256 ${sha256.slice(0, 12)}… is here now.`];
    }
    ui.details.replaceChildren();
    last = file;
    if (!models.size) addModel(bytesOf(content.model));
    const stream = await slices(openStream(bytes), mine), { header } = stream, problems = new Map();
    const sha256 = header.exact && [...models.keys()].find((known) => known.startsWith(header.lmSha256));
    const evaluator = sha256 ? new Evaluator(models.get(sha256)) : null, isLacking = header.exact && !sha256;
    const since = performance.now(), tell = (segment, problem) => problems.set(segment, problem);
    const work = everySegment(bytes, stream, evaluator, isLacking, tell);
    await slices(work, mine, () => problems.size / header.numSegments);
    const ms = performance.now() - since;
    ui.details.replaceChildren(...details(bytes, stream, problems, isLacking ? "not decoded" : "verified"));
    return verdict(stream, problems, isLacking, ms);
  }

  /** Return in words whether a stream is verified, and what kind of news that is. */
  function verdict({ header, lost }, problems, isLacking, ms) {
    const broken = [...problems].filter(([, problem]) => problem);
    const parts = [...lost, ...broken.map(([{ index }, reason]) => ({ index, count: 1, reason }))];
    const count = parts.reduce((sum, part) => sum + part.count, 0), all = plural(header.numSegments, "segment");
    const some = parts.sort((a, b) => a.index - b.index).slice(0, 3).map((part) => `${numbers(part)}: ${part.reason}`);
    const damage = count ? `Damaged: ${count} of ${all} lost; segment ${some.join("; segment ")}` : "";
    const found = damage && damage + (parts.length > 3 ? "; and more. " : ". ");
    const rows = [...problems].reduce((sum, [segment, problem]) => sum + (problem ? 0 : segment.numRows), 0);
    const which = header.exact ? `${shown(header.lmName)} (SHA-256 ${header.lmSha256}…)` : "";
    if (isLacking) {
      const here = [...models.keys()].map((sha256) => `${sha256.slice(0, 12)}…`).join(", ");
      const checked = found || `The checksums of headers and payloads are right (${all}). `;
      const lacking = `Not decoded: that needs the model ${which}, which this page has not; it has ${here}.`;
      return [checked + lacking, count ? "bad" : ""];
    }
    if (count) return [`${found}Verified: ${plural(rows, "row")} of the others.`, "bad"];
    const speed = (ms / Math.max(rows, 1)).toFixed(2);
    const how = header.exact ? ` with the model ${which}, which this page has, at ${speed} ms a row` : "";
    const agrees = `every checksum${header.exact ? " and interval hash" : ""} agrees`;
    return [`Verified: ${all}, ${plural(rows, "row")}, decoded${how}; ${agrees}.`, "good"];
  }

  const open = (file) => file && alone(ui.verdict, (mine) => openFile(file, mine));
  ui.stop.addEventListener("click", () => (job = null));
  ui.start.addEventListener("click", () => alone(ui.status, decodeHere));
  ui.choose.addEventListener("change", () => open(ui.choose.files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    ui.drop.addEventListener(name, (event) => {
      event.preventDefault();
      ui.drop.classList.toggle("over", name === "dragover");
      if (name === "drop") open(event.dataTransfer.files[0]);
    });
  }
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    if (!job) alone(ui.status, decodeHere); // it takes about a second
  });
  seen.observe(ui.section);
}

const numbers = ({ index, count }) => (count > 1 ? `${index} to ${index + count - 1}` : index);

/** Return tables of a stream's header and of its segments; `good` is the state of those with nothing wrong. */
function details(bytes, { header: h, segments, parity, lost, notes }, problems, good) {
  const seconds = (row) => startOfRow(h, row).toFixed(2), rate = (bytes.length * 8) / 1000 / startOfRow(h, h.numRows);
  const audio = [
    h.sampleRate && `${h.sampleRate} Hz`, h.channels && plural(h.channels, "channel"),
    h.numSamples !== null && plural(h.numSamples, "sample"),
  ];
  const order = ["", ", each the tree of levels below one code", ", each a code's bytes"][h.order];
  const facts = [
    ["file", plural(bytes.length, "byte")],
    ["codec", `${shown(h.codec) || "not said"}; weights ${shown(h.weights) || "not said"}`],
    ["audio", audio.filter(Boolean).join(", ") || "not said"],
    ["codes", `${plural(h.numRows, "row")} of ${plural(h.columns.length, "code")}${order}; ${seconds(h.numRows)} s`],
    ["coded", h.exact ? `by the language model ${shown(h.lmName)} (SHA-256 ${h.lmSha256}…)` : "raw, at fixed width"],
    ["rate", `${h.numRows ? rate.toFixed(3) : "no"} kbps with all headers${h.kbps ? `; ${h.kbps} nominally` : ""}`],
    ["parity", parity ? `${plural(parity, "segment")}, from which Python restores others; this page does not` : "none"],
    ["decoded audio", h.audioSha256 ? `SHA-256 ${h.audioSha256}…; not checked: it needs the codec` : "not said"],
    ...notes.map((note) => ["note", note]),
  ];
  const rows = segments.slice(0, SHOWN).map((segment) => {
    const { index, firstRow, numRows, offset, end } = segment;
    const span = `${seconds(firstRow)} to ${seconds(firstRow + numRows)}`;
    return [index, span, numRows, `${offset} to ${end}`, problems.get(segment) || good];
  });
  rows.push(...lost.slice(0, SHOWN).map((part) => [numbers(part), "–", "–", "–", part.reason]));
  const caption = segments.length > SHOWN ? `The first ${SHOWN} of ${segments.length} segments` : "Segments";
  const heads = ["segment", "seconds", "rows", "bytes", "state"];
  return [table("What the stream says of itself", ["field", "value"], facts), table(caption, heads, rows)];
}

export default { render };

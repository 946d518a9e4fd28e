// Answers of a listener as rows, and as the CSV file that codecbook.book.listen.read_answers reads.

const SCHEMA = "codecbook-answers-1";
const FIELDS = [
  "schema", "test", "title", "listener", "session", "trial", "item", "condition", "score", "vote", "played_s", "time_utc",
];

/** A cell that no spreadsheet takes for a formula: one that starts like it gets an apostrophe, which reading takes off. */
function cell(value) {
  const text = String(value ?? "").replace(/[\u0000-\u001f\u007f]/g, " ");
  const safe = /^[=+\-@']/.test(text) ? `'${text}` : text;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function toCsv(rows) {
  const table = [FIELDS, ...rows.map((row) => FIELDS.map((name) => row[name]))];
  return table.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40) || "test";
const random = (below) => Math.floor((crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32) * below);

function shuffled(list) {
  const order = [...list];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Keeps the rows of one listener in model "answers", names them, and hands out the file. */
class AnswerBook {
  constructor(model, test) {
    this.model = model;
    this.session = crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0");
    this.common = { schema: SCHEMA, test, title: model.get("content").title, session: this.session };
    this.name = element("input", { type: "text", maxlength: "60", size: "14" });
    this.button = element("button", { type: "button", disabled: "" }, "Download answers (CSV)");
    this.button.addEventListener("click", () => this.download());
    this.root = element("div", { class: "cb-row" }, element("label", {}, "Listener ", this.name), this.button);
    this.button.disabled = this.rows.length === 0;
  }

  get rows() {
    return this.model.get("answers");
  }

  add(rows) {
    const listener = this.name.value.trim() || `listener ${this.session}`;
    const complete = rows.map((row) => ({ ...this.common, listener, ...row, time_utc: new Date().toISOString() }));
    this.set([...this.rows, ...complete]);
  }

  set(rows) {
    this.model.set("answers", rows);
    this.model.save_changes();
    this.button.disabled = rows.length === 0;
  }

  download() {
    const href = URL.createObjectURL(new Blob([toCsv(this.rows)], { type: "text/csv" }));
    element("a", { href, download: `${this.common.test}-${slug(this.common.title)}-${this.session}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }
}

/** Adds up for how long each of several clips was heard. */
class Heard {
  constructor(engine) {
    Object.assign(this, { engine, seconds: new Map(), what: null, since: null });
  }

  /** Note what is heard from here on, null for nothing. */
  now(what) {
    const time = this.engine.playing ? this.engine.context.currentTime : null;
    if (this.since !== null && time !== null) this.seconds.set(this.what, this.of(this.what) + time - this.since);
    this.what = what;
    this.since = time;
  }

  of(what) {
    return this.seconds.get(what) ?? 0;
  }
}

// MUSHRA (ITU-R BS.1534-3): conditions in an order of chance, the reference and two anchors hidden among them, are
// rated from 0 to 100 beside the open reference; only what was heard can be rated.
//
// content: {title, match, hidden, media, items: [{name, rate, seconds, peak, takes: [{label, clip, gain_db}]}]}
//   the first take of an item is the reference, labelled `hidden`.

const SCALE = ["bad", "poor", "fair", "good", "excellent"]; // a fifth of the scale each

/** What the ratings say: of each condition the mean score, and how far it lies below the hidden reference, in pairs. */
export function mushraSummary(rows, hidden) {
  const at = (row) => JSON.stringify([row.trial, row.item]);
  const references = new Map(rows.filter((row) => row.condition === hidden).map((row) => [at(row), Number(row.score)]));
  return [...new Set(rows.map((row) => row.condition))].map((condition) => {
    const own = rows.filter((row) => row.condition === condition);
    const scores = own.map((row) => Number(row.score));
    const difference = meanSequence(own.map((row) => Number(row.score) - references.get(at(row))), -100, 100);
    return { condition, mean: scores.reduce((a, b) => a + b, 0) / scores.length, n: scores.length, difference };
  }).sort((a, b) => b.mean - a.mean);
}

/** The page of one item: `done` gets its rows. */
function mushraPage(host, content, item, done) {
  const root = element("div");
  host.replaceChildren(root);
  const transport = new Transport(root, item, (key) => content.media[key], { spectrogram: false });
  const { engine, picture } = transport;
  const heard = new Heard(engine);
  const next = element("button", { type: "button", disabled: "" }, "Next");
  const listen = (take) => {
    const button = element("button", { type: "button", "aria-pressed": "false" });
    button.addEventListener("click", async () => {
      choose(take, button);
      if (!engine.playing) await transport.toggle();
    });
    return button;
  };
  const reference = listen(item.takes[0]);
  reference.append("Reference");
  const rows = shuffled(item.takes.map((take) => ({ ...take }))).map((take, i) => {
    const name = String.fromCharCode(65 + i);
    const row = { take, score: null, button: listen(take) };
    row.button.append(`Listen to ${name}`);
    const range = { type: "range", min: "0", max: "100", value: "0", disabled: "" };
    row.slider = element("input", { ...range, "aria-label": `Score of ${name}` });
    row.value = element("span", {}, "\u2013");
    row.slider.addEventListener("input", () => {
      row.score = Number(row.slider.value);
      row.value.textContent = row.slider.value;
      next.disabled = rows.some((other) => other.score === null);
    });
    return row;
  });
  const buttons = [reference, ...rows.map((row) => row.button)];
  const takes = [item.takes[0], ...rows.map((row) => row.take)];

  function choose(take, button) {
    heard.now(take);
    engine.choose(take.clip, fromDb(content.match ? (take.gain_db ?? 0) : 0)).catch(() => {});
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  }

  transport.onPlay = () => {
    heard.since = null;
    heard.now(heard.what);
    engine.prepare(takes.map((take) => take.clip)).catch(() => {});
  };
  transport.onTick = () => {
    if (engine.playing) heard.now(heard.what);
    for (const row of rows) if (heard.of(row.take) > 0) row.slider.disabled = false;
  };
  next.addEventListener("click", () => {
    transport.close();
    const played_s = (take) => heard.of(take).toFixed(2);
    const answer = ({ take, score }) => ({ condition: take.label, score, vote: "", played_s: played_s(take) });
    done(rows.map((row) => ({ item: item.name, ...answer(row) })));
  });
  root.append(
    picture.root,
    element("div", { class: "cb-row" }, transport.button, reference, transport.whole),
    element("div", { class: "cb-rate cb-scale" }, ...["", ...SCALE, ""].map((text) => element("span", {}, text))),
    ...rows.map((row) => element("div", { class: "cb-rate" }, row.button, row.slider, row.value)),
    element("div", { class: "cb-row" }, next), transport.status,
  );
  choose(item.takes[0], reference);
  picture.draw(item.takes[0].clip).catch(() => {});
  const press = (key) => {
    const at = /^[1-9]$/.test(key) ? Number(key) - 1 : -1;
    return at in buttons ? choose(takes[at], buttons[at]) : transport.press(key);
  };
  return { press, close: () => transport.close() };
}

function renderMushra({ model, el }) {
  const content = model.get("content");
  const root = frame(el, "mushra", content.title);
  const book = new AnswerBook(model, "mushra");
  const place = element("p", { role: "status" });
  const host = element("div");
  const hint = element("details", { class: "cb-hint" }, element("summary", {}, "How to rate, keys and statistics"),
    "Listen to the reference and to each letter; one of them is the reference itself, which deserves 100, and two are "
    + `low-pass anchors. Rate what you hear against the reference. Keys: ${Transport.keys} 1 chooses the reference, `
    + "2 to 9 the letters. Intervals hold at all times, so you may stop after any page.");
  root.append(place, host, book.root, hint);
  let order = [];
  let page = null;
  let round = model.get("answers").reduce((most, row) => Math.max(most, row.trial), 0);

  function start() {
    round += 1;
    order = shuffled(content.items);
    turn();
  }

  function turn() {
    page?.close();
    const item = order.shift();
    if (!item) return finish();
    place.textContent = `${content.items.length - order.length} of ${content.items.length}: ${item.name}`;
    page = mushraPage(host, content, item, (rows) => {
      book.add(rows.map((row) => ({ trial: round, ...row })));
      turn();
    });
  }

  function finish() {
    page = null;
    place.textContent = "All rated. Differences to the hidden reference are taken page by page, from your own ratings.";
    const cells = ([first, ...others]) =>
      element("tr", {}, element("th", { scope: "row" }, first), ...others.map((text) => element("td", {}, text)));
    const lines = mushraSummary(model.get("answers"), content.hidden).map(({ condition, mean, n, difference }) => {
      const { mean: gap, low, high } = difference;
      const below = condition === content.hidden ? "" : `${signed(gap, 0)} (${signed(low, 0)} to ${signed(high, 0)})`;
      return cells([condition, mean.toFixed(0), String(n), below]);
    });
    const again = element("button", { type: "button" }, "Rate again");
    again.addEventListener("click", start);
    const names = ["Condition", "Mean score", "Ratings", "Difference to it, anytime-valid 95 %"];
    const head = element("tr", {}, ...names.map((text) => element("th", { scope: "col" }, text)));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
    host.replaceChildren(element("div", { class: "cb-detail" }, table), again);
  }

  onKeys(root, (key) => (page ? page.press(key) : false));
  start();
  return () => page?.close();
}

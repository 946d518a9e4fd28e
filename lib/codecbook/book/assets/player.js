// The player: takes that differ in one or several choices, switched while they sound.
//
// content: {title, match, rate, seconds, peak, media, takes: [{choice: {selector: option}, clip, gain_db, level, note, detail}]}
//   clip is a key of media, the clips' files; detail is HTML as text in JupyterLab and a node on a page, made by our own code.
// model, beside it: "chosen", the index of the take that is heard.

/** The index of the take that fits best: selectors in their order decide, the earlier ones first. */
export function fitting(takes, wanted) {
  let left = takes.map((take, index) => [take, index]);
  for (const name of selectorsOf(takes)) {
    const same = left.filter(([take]) => name in wanted && take.choice[name] === wanted[name]);
    if (same.length) left = same;
  }
  return left[0][1];
}

export const selectorsOf = (takes) => [...new Set(takes.flatMap((take) => Object.keys(take.choice)))];

/** The options that a selector offers beside a take: those of takes that agree with it in all earlier selectors. */
export function optionsOf(takes, chosen, name) {
  const earlier = selectorsOf(takes).slice(0, selectorsOf(takes).indexOf(name));
  const beside = takes.filter((take) => earlier.every((other) => take.choice[other] === chosen.choice[other]));
  return [...new Set(beside.filter((take) => name in take.choice).map((take) => take.choice[name]))];
}

/** Takes that one change of one selector leads to. */
function neighbours(takes, chosen) {
  return selectorsOf(takes).flatMap((name) =>
    optionsOf(takes, chosen, name).map((option) => takes[fitting(takes, { ...chosen.choice, [name]: option })]),
  );
}

let groups = 0; // radio buttons of one group share a name that no other group of the page has

/** One selector: radio buttons, or a list where they are many. `pick` is called with an option. */
function selectorField(name, options, pick) {
  const field = element("fieldset", {}, element("legend", {}, name));
  if (options.length > 8) {
    const list = element("select", { "aria-label": name }, ...options.map((option) => new Option(option, option)));
    list.addEventListener("change", () => pick(list.value));
    field.append(list);
    field.show = (option) => (list.value = option);
    return field;
  }
  const group = `codecbook-${++groups}-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map((option) => {
    const input = element("input", { type: "radio", name: group });
    input.addEventListener("change", () => pick(option));
    field.append(element("label", { class: "cb-option" }, input, element("span", {}, option)));
    return input;
  });
  field.show = (option) => inputs.forEach((input, i) => (input.checked = options[i] === option));
  return field;
}

function renderPlayer({ model, el }) {
  let content = model.get("content");
  const data = (key) => content.media[key];
  const root = frame(el, "player", content.title);
  const transport = new Transport(root, content, data);
  const { engine, picture } = transport;
  const selectors = element("div");
  const level = element("input", { type: "checkbox" });
  level.checked = content.match;
  const gain = element("span");
  const levels = element("label", { class: "cb-level" }, level, " Match levels: ", gain);
  const note = element("p");
  const detail = element("div", { class: "cb-detail" });
  const keys = `${Transport.keys} 1 to 9 choose in the last row of choices, b goes back to the take before.`;
  const hint = element("details", { class: "cb-hint" }, element("summary", {}, "Keys"), keys);
  root.append(selectors, picture.root, element("div", { class: "cb-row" }, transport.button, transport.whole, levels));
  root.append(note, transport.status, detail, hint);

  const fields = new Map(); // selector -> [options as text, field]
  let wanted = {};
  let now = 0;
  let before = 0;
  let visible = false;

  function pick(name, option) {
    wanted = { ...wanted, [name]: option };
    show(fitting(content.takes, wanted));
  }

  function showSelectors(take) {
    const shown = [];
    for (const name of selectorsOf(content.takes)) {
      const options = optionsOf(content.takes, take, name);
      if (!options.length || !(name in take.choice)) continue;
      const text = JSON.stringify(options);
      if (fields.get(name)?.[0] !== text) {
        fields.set(name, [text, selectorField(name, options, (option) => pick(name, option))]);
      }
      fields.get(name)[1].show(take.choice[name]);
      shown.push(fields.get(name)[1]);
    }
    // a field that stays keeps the focus, which it would lose if it were put in anew
    if (shown.length !== selectors.children.length || shown.some((field, i) => field !== selectors.children[i])) {
      for (const old of [...selectors.children]) if (!shown.includes(old)) old.remove();
      shown.forEach((field, i) => selectors.children[i] !== field && selectors.insertBefore(field, selectors.children[i]));
    }
  }

  async function show(index) {
    const take = content.takes[index];
    if (index !== now) before = now;
    now = index;
    showSelectors(take);
    const applied = level.checked ? take.gain_db : 0;
    gain.textContent = take.gain_db === null ? `no gain, ${take.level}` : `${signed(applied)} dB (${take.level})`;
    note.textContent = take.note;
    note.hidden = !take.note;
    const parse = (html) => document.createRange().createContextualFragment(html);
    const shown = typeof take.detail === "string" ? parse(take.detail) : take.detail;
    detail.replaceChildren(...(shown ? [shown] : []));
    model.set("chosen", index);
    model.save_changes();
    try {
      await engine.choose(take.clip, fromDb(applied ?? 0));
      if (visible) await picture.draw(take.clip, content.takes[0].clip);
      if (engine.playing) engine.prepare(neighbours(content.takes, take).map((other) => other.clip)).catch(() => {});
    } catch (error) {
      transport.status.textContent = `This take cannot be decoded here (${error.message}).`;
    }
  }

  function press(key) {
    const { choice } = content.takes[now];
    const last = selectorsOf(content.takes).filter((name) => name in choice).pop();
    const option = optionsOf(content.takes, content.takes[now], last)[Number(key) - 1];
    if (/^[1-9]$/.test(key)) return option === undefined ? false : pick(last, option);
    if (key !== "b") return transport.press(key);
    wanted = { ...wanted, ...content.takes[before].choice };
    return show(before);
  }

  transport.onPlay = () => show(now);
  level.addEventListener("change", () => show(now));
  onKeys(root, press);
  const draw = () => visible && picture.draw(content.takes[now].clip, content.takes[0].clip).catch(() => {});
  const sight = new IntersectionObserver((entries) => {
    visible = entries.some((entry) => entry.isIntersecting);
    draw();
  });
  sight.observe(picture.root);
  const resized = new ResizeObserver(draw);
  resized.observe(picture.root);

  /** Takes came from Python: the same choice is heard on, from the same place. */
  function replace() {
    const { rate, seconds } = content;
    content = model.get("content");
    engine.forget(content.takes.map((take) => take.clip));
    picture.forget(content.peak);
    if (content.rate !== rate || content.seconds !== seconds) engine.resize(content);
    before = 0;
    show(fitting(content.takes, wanted));
  }
  const follow = () => model.get("chosen") !== now && show(model.get("chosen"));
  model.on("change:content", replace);
  model.on("change:chosen", follow);
  const from = Math.min(model.get("chosen") ?? 0, content.takes.length - 1);
  wanted = { ...content.takes[from].choice };
  show(from);
  return () => {
    model.off("change:content", replace);
    model.off("change:chosen", follow);
    sight.disconnect();
    resized.disconnect();
    transport.close();
  };
}

// A/B/X: X is A or B by chance, and the listener says which, for as many trials as they like.
//
// content: {title, item, trials, rate, seconds, peak, media, takes: [{label, clip, gain_db, level}]}, reference, A, B.

const percent = (share) => `${Math.round(100 * share)} %`;

export function abxText(answers, trials) {
  const { correct, n, e, p, share } = evidence(answers);
  if (n === 0) return `Trial 1 of ${trials}. Listen to X, then vote.`;
  const last = answers[n - 1] ? "Right" : "Wrong";
  const range = `${percent(share.low)} to ${percent(share.high)}`;
  const values = `e-value ${e < 1000 ? e.toPrecision(2) : e.toFixed(0)}, p = ${p < 0.001 ? "< 0.001" : p.toFixed(3)}`;
  const score = `${correct} of ${n} correct (${range}), ${values}.`;
  let reading = "";
  if (p < 0.05) reading = " Guessing would rarely do as well.";
  else if (n >= trials) reading = " Guessing would do as well often enough.";
  if (n >= trials) return `Done: ${score}${reading} You may go on.`;
  return `${last}. ${score}${reading} Trial ${n + 1} of ${trials}.`;
}

function renderAbx({ model, el }) {
  const content = model.get("content");
  const [reference, A, B] = content.takes;
  const root = frame(el, "abx", content.title);
  const transport = new Transport(root, content, (key) => content.media[key], { spectrogram: false });
  const { engine, picture } = transport;
  const heard = new Heard(engine);
  const book = new AnswerBook(model, "abx");
  const gains = content.takes.map(({ gain_db, level }) => (gain_db === null ? `none, ${level}` : `${signed(gain_db)} dB`));
  const levels = content.match ? `Levels are matched by loudness (gains: ${gains.join(", ")}).` : "Levels are as they are.";
  const named = `Reference: ${reference.label}. A: ${A.label}. B: ${B.label}. X is A or B, drawn anew for every trial.`;
  root.append(element("p", {}, named), element("p", { class: "cb-hint" }, levels));
  const choices = ["Reference", "A", "B", "X"].map((name) =>
    element("button", { type: "button", "aria-pressed": "false" }, name),
  );
  const votes = ["X is A", "X is B"].map((name) => element("button", { type: "button" }, name));
  const restart = element("button", { type: "button" }, "Start again");
  const status = element("p", { role: "status", class: "cb-outcome" });
  const row = (name, ...parts) => element("div", { class: "cb-row", role: "group", "aria-label": name }, ...parts);
  root.append(
    picture.root,
    row("Listen to", transport.button, ...choices, transport.whole),
    row("Vote", ...votes, restart),
    transport.status, status, book.root,
    element("details", { class: "cb-hint" }, element("summary", {}, "Keys and statistics"),
      `Keys: ${Transport.keys} 1 to 4 switch between Reference, A, B and X. `,
      "You may stop whenever you like: the p-value and the interval of the share hold after every trial, however many "
      + "follow. A p-value of a fixed number of trials, looked at after each, would not."),
  );
  let x = 1 + random(2); // index of the take that X is
  let chosen = 0;

  function choose(index) {
    chosen = index;
    const take = content.takes[index === 3 ? x : index];
    heard.now(index === 3 ? "X" : "other");
    engine.choose(take.clip, fromDb(content.match ? (take.gain_db ?? 0) : 0)).catch(() => {});
    choices.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  }

  function refresh() {
    const answers = model.get("answers").map((row) => row.vote === row.condition);
    restart.hidden = answers.length === 0;
    status.textContent = abxText(answers, content.trials);
  }

  function allowVotes() {
    if (engine.playing) heard.now(heard.what);
    for (const button of votes) button.disabled = !(heard.of("X") > 0); // a vote on what was not heard says nothing
  }

  function vote(index) {
    const [condition, cast] = [content.takes[x].label, content.takes[index].label];
    const trial = model.get("answers").length + 1;
    book.add([{ trial, item: content.item, condition, score: "", vote: cast, played_s: heard.of("X").toFixed(2) }]);
    x = 1 + random(2);
    heard.seconds.clear();
    choose(chosen);
    allowVotes();
    refresh();
  }

  transport.onPlay = () => {
    heard.since = null;
    choose(chosen);
    engine.prepare(content.takes.map((take) => take.clip)).catch(() => {});
  };
  transport.onTick = allowVotes;
  choices.forEach((button, i) => button.addEventListener("click", () => choose(i)));
  votes.forEach((button, i) => button.addEventListener("click", () => vote(i + 1)));
  restart.addEventListener("click", () => (book.set([]), refresh()));
  onKeys(root, (key) => (/^[1-4]$/.test(key) ? choose(Number(key) - 1) : transport.press(key)));
  model.on("change:answers", refresh);
  choose(0);
  allowVotes();
  refresh();
  const sight = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) picture.draw(reference.clip).catch(() => {});
  });
  sight.observe(picture.root);
  return () => {
    model.off("change:answers", refresh);
    sight.disconnect();
    transport.close();
  };
}

// Prepared answers of a report: controls choose which of the sections on the page is shown. Everything is on the page
// already; this file makes the controls. Answers that are heard are takes of a player instead (player.js).

const STYLE = `
.codecbook-explore .explore-controls { display: flex; flex-wrap: wrap; gap: .6em 2em; margin: .6em 0; }
.codecbook-explore .explore-controls label { display: flex; flex-direction: column; gap: .2em; font-size: .9em;
  min-width: 12em; max-width: 100%; }
.codecbook-explore select { font: inherit; color: inherit; background: color-mix(in srgb, currentColor 6%, transparent);
  border: 1px solid color-mix(in srgb, currentColor 45%, transparent); border-radius: 6px; padding: .3em .5em;
  max-width: 100%; }
.codecbook-explore option { color: CanvasText; background: Canvas; }
.codecbook-explore input[type="range"] { width: 100%; min-width: 12em; accent-color: #0072b2; }
.codecbook-explore :is(select, input):focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
.codecbook-explore [data-choice] > p:first-child { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
`;

function make(tag, properties = {}, children = []) {
  const node = document.createElement(tag);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

/** Turns a block of prepared answers into one that responds; returns nothing. */
function prepare(root) {
  const names = JSON.parse(root.dataset.names);
  const sliders = JSON.parse(root.dataset.sliders);
  const answers = [...root.querySelectorAll("[data-choice]")].map((section) => ({
    section,
    labels: JSON.parse(section.dataset.choice),
  }));
  let current = answers.find((answer) => !answer.section.hidden) ?? answers[0];
  const chosen = [...current.labels];
  const status = make("p", { className: "explore-status" });
  status.setAttribute("role", "status");
  status.style.cssText = "margin:.3em 0;font-size:.9em";

  /** What a control offers, given those before it. */
  const offered = (place) => [
    ...new Set(
      answers
        .filter(({ labels }) => chosen.slice(0, place).every((label, i) => labels[i] === label))
        .map(({ labels }) => labels[place]),
    ),
  ];

  const inputs = names.map((name, place) => {
    const shown = make("span");
    const isSlider = sliders[place];
    const input = isSlider ? make("input", { type: "range", min: 0, step: 1 }) : make("select");
    const label = make("label", {}, [make("span", {}, isSlider ? [`${name}: `, shown] : [name]), input]);
    const one = { input, shown, label, isSlider, options: [] };
    input.addEventListener("input", () => {
      chosen[place] = one.options[Number(input.value)];
      show();
    });
    return one;
  });

  /** Gives a control its options and its value; a choice that it no longer offers keeps its place in them. */
  function refresh(one, place) {
    const options = offered(place);
    const before = one.options.indexOf(chosen[place]);
    if (!options.includes(chosen[place])) chosen[place] = options[Math.min(Math.max(before, 0), options.length - 1)];
    if (options.join("\n") !== one.options.join("\n")) {
      if (one.isSlider) one.input.max = options.length - 1;
      else one.input.replaceChildren(...options.map((text, i) => make("option", { value: i, textContent: text })));
      one.options = options;
    }
    one.input.value = options.indexOf(chosen[place]);
    if (one.isSlider) {
      one.input.setAttribute("aria-valuetext", chosen[place]);
      one.shown.textContent = chosen[place];
    }
  }

  /** Shows the answer to what the controls are set to. */
  function show() {
    inputs.forEach(refresh);
    const next = answers.find(({ labels }) => labels.every((label, i) => label === chosen[i]));
    if (next === current) return;
    current.section.hidden = true;
    next.section.hidden = false;
    current = next;
    status.textContent = next.section.querySelector("p").textContent;
  }

  const row = make("div", { className: "explore-controls" }, inputs.map(({ label }) => label));
  answers[0].section.before(row, status);
  show();
}

if (!document.getElementById("explore-style")) {
  document.head.append(make("style", { id: "explore-style", textContent: STYLE }));
}
for (const root of document.querySelectorAll(".codecbook-explore:not([data-ready])")) {
  root.dataset.ready = "true";
  prepare(root);
}

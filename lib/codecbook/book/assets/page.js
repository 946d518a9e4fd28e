// Chooses the widget by "kind". On a page, where nobody imports this module, it puts widgets in the place of the plain
// players that work without scripts, and stands in for the model that JupyterLab would give them.

const RENDERERS = { player: renderPlayer, abx: renderAbx, mushra: renderMushra };

export function render(widget) {
  if (typeof AudioContext === "function" && typeof OfflineAudioContext === "function") {
    return RENDERERS[widget.model.get("kind")](widget);
  }
  const message = "This browser has no Web Audio, so takes cannot be switched here; below are plain players, if any.";
  widget.el.replaceChildren(element("p", { role: "status" }, message));
}

function pageModel(place) {
  const state = JSON.parse(place.dataset.state);
  const details = [...place.querySelectorAll("[data-detail]")];
  for (const detail of details) state.content.takes[Number(detail.dataset.detail)].detail = detail;
  const audio = (key) => document.querySelector(`audio[data-clip="${CSS.escape(key)}"][src]`);
  state.content.media = new Proxy({}, { get: (_, key) => audio(key).getAttribute("src") });
  const listeners = {};
  return {
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
      for (const callback of listeners[`change:${name}`] ?? []) callback();
    },
    on: (event, callback) => (listeners[event] ??= new Set()).add(callback),
    off: (event, callback) => listeners[event]?.delete(callback),
    save_changes: () => {}, // what is done on a page stays on it
  };
}

for (const place of document.querySelectorAll(".codecbook-sound:not([data-ready])")) {
  place.dataset.ready = "true";
  const model = pageModel(place);
  const plain = element("div");
  plain.append(...place.childNodes);
  plain.hidden = typeof AudioContext === "function"; // it still holds the clips
  const el = element("div");
  place.append(el, plain);
  render({ model, el });
}

export default { render };

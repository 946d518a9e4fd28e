// Static pages: takes the clips out of the fallback players and puts the listening test in their place.
// Appended to abx.js, whose render() it calls with a stand-in for the widget's model.

for (const el of document.querySelectorAll(".codecbook-abx:not([data-ready])")) {
  el.dataset.ready = "true";
  const clips = [...el.querySelectorAll("audio")].map((audio) => ({
    label: audio.getAttribute("aria-label"),
    data: audio.getAttribute("src").split(",")[1],
  }));
  const state = { title: el.dataset.title, trials: Number(el.dataset.trials), clips, votes: [] };
  const listeners = {};
  const model = {
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
      for (const callback of listeners[`change:${name}`] ?? []) callback();
    },
    on: (event, callback) => (listeners[event] ??= new Set()).add(callback),
    off: (event, callback) => listeners[event]?.delete(callback),
    save_changes: () => {}, // votes on a static page stay on it
  };
  render({ model, el });
}

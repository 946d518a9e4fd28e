// Static pages: appended to page.js, whose render() it calls with a stand-in for the widget's model.

for (const el of document.querySelectorAll(".codecbook-here:not([data-ready])")) {
  el.dataset.ready = "true";
  const content = JSON.parse(el.querySelector("script").textContent);
  render({ model: { get: () => content }, el });
}

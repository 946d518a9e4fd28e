// Folding of code, the contents' place mark, and unfolding for print. The page reads well without any of it.
"use strict";
{
  const sources = [...document.querySelectorAll("details.source")];
  const toggle = document.getElementById("toggle-code");
  if (toggle && sources.length) {
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      const hide = toggle.getAttribute("aria-pressed") === "false";
      for (const source of sources) source.open = !hide;
      toggle.setAttribute("aria-pressed", String(hide));
      toggle.textContent = hide ? "Show code" : "Hide code";
    });
  }

  const contents = document.querySelector(".toc details");
  if (contents) {
    const wide = matchMedia("(min-width: 68rem)");
    const fit = () => (contents.open = wide.matches);
    wide.addEventListener("change", fit);
    fit();
    const links = new Map([...contents.querySelectorAll("a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
    const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
    const mark = () => {
      const passed = headings.filter((heading) => heading.getBoundingClientRect().top < innerHeight * 0.3);
      const current = passed.length ? passed[passed.length - 1].id : null;
      for (const [id, link] of links) {
        link.classList.toggle("current", id === current);
        if (id === current) link.setAttribute("aria-current", "location");
        else link.removeAttribute("aria-current");
      }
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }

  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("main details")) fold.open = true;
  });
}

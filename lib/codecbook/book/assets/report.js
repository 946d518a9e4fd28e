// Folding of code, the way to the search, the contents' place mark, and unfolding for print. The page reads well
// without any of it.
"use strict";
{
  const sources = [...document.querySelectorAll("details.source")];
  const toggle = document.getElementById("toggle-code");
  if (toggle && sources.length) {
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      const show = toggle.textContent === "Show code";
      for (const source of sources) source.open = show;
      toggle.textContent = show ? "Hide code" : "Show code";
    });
  }

  const search = document.getElementById("search");
  if (search) {
    search.hidden = false;
    search.addEventListener("submit", (event) => {
      event.preventDefault();
      location.href = "index.html#q=" + encodeURIComponent(search.firstElementChild.value);
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

  // what can be scrolled can be reached by keys
  const reach = () => {
    for (const box of document.querySelectorAll("main pre, .highlight, math[display]"))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  addEventListener("resize", reach);
  addEventListener("toggle", reach, true);
  reach();

  // paper has no folds: code and all else that is folded is printed
  const folds = [...document.querySelectorAll("main details")];
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = folds.filter((fold) => !fold.open);
    for (const fold of folded) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of folded) fold.open = false;
  });
}

// Search over the texts of all reports, which the page holds. What was searched for stands in the address: #q=words.
"use strict";
{
  const MOST = 60;
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const form = document.getElementById("search");
  const input = form.querySelector("input");
  const found = document.getElementById("hits");
  const count = found.querySelector("p");
  const list = found.querySelector("ol");
  let sections = null;

  const load = () => {
    sections = JSON.parse(document.getElementById("texts").textContent).flatMap(([file, title, parts]) =>
      parts.map(([heading, anchor, text]) => ({
        file, title, heading, anchor, text, head: plain(`${title} ${heading}`), body: plain(text),
      })),
    );
  };

  // a piece of the text around the first word, in which all words are marked
  const excerpt = ({ text }, words) => {
    const at = Math.max(0, Math.min(...words.map((word) => text.toLowerCase().indexOf(word)).filter((n) => n >= 0), text.length) - 70);
    const piece = (at > 0 ? "… " : "") + text.slice(at, at + 220).trim() + (at + 220 < text.length ? " …" : "");
    const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const line = document.createElement("span");
    piece.split(new RegExp(`(${escaped.join("|")})`, "i")).forEach((part, n) => {
      if (n % 2) line.appendChild(document.createElement("mark")).textContent = part;
      else line.append(part);
    });
    return line;
  };

  const search = () => {
    const words = plain(input.value).split(/\s+/).filter(Boolean);
    found.hidden = !words.length;
    list.replaceChildren();
    if (!words.length) return;
    if (sections === null) load();
    const hits = sections
      .filter(({ head, body }) => words.every((word) => head.includes(word) || body.includes(word)))
      .map((section) => ({ section, rank: words.filter((word) => section.head.includes(word)).length }))
      .sort((a, b) => b.rank - a.rank);
    const more = hits.length > MOST ? `, the first ${MOST} are shown` : "";
    count.textContent = `${hits.length} ${hits.length === 1 ? "section" : "sections"}${more}`;
    for (const { section } of hits.slice(0, MOST)) {
      const item = list.appendChild(document.createElement("li"));
      const link = item.appendChild(document.createElement("a"));
      link.href = section.file + (section.anchor ? "#" + encodeURIComponent(section.anchor) : "");
      link.textContent = section.heading && section.heading !== section.title ? `${section.title}: ${section.heading}` : section.title;
      item.append(excerpt(section, words));
    }
  };

  const asked = () => new URLSearchParams(location.hash.slice(1)).get("q") ?? "";
  const read = () => {
    input.value = asked();
    search();
  };
  input.addEventListener("input", search);
  input.addEventListener("change", () => location.replace("#q=" + encodeURIComponent(input.value)));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    if (asked() !== input.value) read(); // else it is what the change has written: a link made anew would lose its click
  });
  form.hidden = false;
  read();
}

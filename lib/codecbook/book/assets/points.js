// Values of figures, for a mouse, a finger and arrow keys: the nearest point, a cross through it, and what it says.
"use strict";
for (const plot of document.querySelectorAll("[data-points]")) {
  const image = plot.querySelector("img");
  const series = JSON.parse(plot.dataset.points);
  const make = (name, parent) => {
    const made = parent.appendChild(document.createElement("span"));
    made.className = name;
    return made;
  };
  const canvas = document.createElement("span");
  canvas.className = "canvas";
  image.replaceWith(canvas);
  canvas.append(image);
  const marks = ["across", "down", "spot"].map((name) => make(name, canvas));
  const readout = make("readout", canvas);
  readout.setAttribute("role", "status");
  plot.setAttribute("aria-description", "Arrow keys read its values.");
  const hide = () => canvas.classList.remove("reading");
  const points = series.flatMap((one, n) => one.points.map(([x, y, ...texts]) => ({ n, x, y, texts })));
  let current = null;

  const show = (point) => {
    current = point;
    const { name, x, y } = series[point.n];
    const line = (label, text) => (label ? `${label}: ${text}` : text);
    readout.replaceChildren();
    if (name) readout.append(Object.assign(document.createElement("strong"), { textContent: name }));
    for (const text of [line(x, point.texts[0]), line(y, point.texts[1])])
      readout.append(Object.assign(document.createElement("span"), { textContent: text }));
    const left = `${point.x / 100}%`;
    const top = `${point.y / 100}%`;
    for (const mark of marks) Object.assign(mark.style, { left, top });
    marks[0].style.left = marks[1].style.top = "0";
    canvas.classList.add("reading");
    // beside the point, on the side where there is room
    const beside = (place, whole, own) => {
      const at = (place * whole) / 1e4;
      return `${Math.max(0, at + 12 + own > whole ? at - 12 - own : at + 12)}px`;
    };
    readout.style.left = beside(point.x, canvas.clientWidth, readout.offsetWidth);
    readout.style.top = beside(point.y, canvas.clientHeight, readout.offsetHeight);
  };

  const distance = (point, x, y, box) => Math.hypot(((point.x - x) * box.width) / 1e4, ((point.y - y) * box.height) / 1e4);
  const nearest = (among, x, y) => {
    const box = canvas.getBoundingClientRect();
    return among.reduce((best, point) => (distance(point, x, y, box) < distance(best, x, y, box) ? point : best));
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(1e4 * (event.clientX - box.left)) / box.width, (1e4 * (event.clientY - box.top)) / box.height];
    const point = nearest(points, x, y);
    if (distance(point, x, y, box) < 60) show(point);
    else hide();
  };
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  canvas.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const over = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!along && !over) return;
    event.preventDefault();
    if (current === null || !canvas.classList.contains("reading")) show(current ?? points[0]);
    else if (along) {
      const own = points.filter((point) => point.n === current.n);
      show(own[(own.indexOf(current) + along + own.length) % own.length]);
    } else {
      const next = (current.n + over + series.length) % series.length;
      show(nearest(points.filter((point) => point.n === next), current.x, current.y));
    }
    readout.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

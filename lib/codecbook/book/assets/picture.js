// A clip's waveform above its spectrogram, which shows where the sound is and is where one moves it.

const COLUMNS = 420;
const FLOOR_DB = 80; // drawn darkest
// matplotlib's magma at nine places
const MAGMA = ["000004", "1d1147", "51127c", "832681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf"].map((hex) =>
  [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)),
);

/** Power of the bins 0 to N/2 - 1 of a real signal whose length N is a power of two (radix 2, decimation in time). */
export function powerSpectrum(samples) {
  const N = samples.length;
  const re = Float64Array.from(samples);
  const im = new Float64Array(N);
  for (let i = 1, j = 0; i < N; i++) {
    let bit = N >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j]] = [re[j], re[i]];
  }
  for (let size = 2; size <= N; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const c = Math.cos((-2 * Math.PI * k) / size);
      const s = Math.sin((-2 * Math.PI * k) / size);
      for (let i = k; i < N; i += size) {
        const x = re[i + half] * c - im[i + half] * s;
        const y = re[i + half] * s + im[i + half] * c;
        re[i + half] = re[i] - x;
        im[i + half] = im[i] - y;
        re[i] += x;
        im[i] += y;
      }
    }
  }
  return re.slice(0, N / 2).map((x, i) => x * x + im[i] * im[i]);
}

/** Columns of power over windows of about 32 ms; of windows that share a column the loudest is kept, bin by bin. */
export function spectrogram(samples, rate) {
  const N = 2 ** Math.round(Math.log2(0.032 * rate));
  const hop = Math.max(N / 4, Math.ceil(samples.length / 1200)); // long clips are sampled
  const count = Math.max(1, Math.ceil(samples.length / hop));
  const columns = Array.from({ length: Math.min(COLUMNS, count) }, () => new Float64Array(N / 2));
  const frame = new Float64Array(N);
  for (let i = 0; i < count; i++) {
    for (let n = 0; n < N; n++) {
      const sample = samples[i * hop + n - N / 2] ?? 0;
      frame[n] = sample * (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / N));
    }
    const column = columns[Math.floor((i * columns.length) / count)];
    powerSpectrum(frame).forEach((power, bin) => (column[bin] = Math.max(column[bin], power)));
  }
  return columns;
}

const loudest = (columns) => columns.reduce((most, column) => column.reduce((a, b) => Math.max(a, b), most), 1e-12);

/** Draw columns of power as an image of one pixel a bin, 0 dB = `reference`. */
function spectrogramImage(columns, reference) {
  const bins = columns[0].length;
  const image = new ImageData(columns.length, bins);
  columns.forEach((column, x) =>
    column.forEach((power, bin) => {
      const share = Math.min(1, Math.max(0, 1 + (10 * Math.log10(power / reference + 1e-12)) / FLOOR_DB));
      const place = share * (MAGMA.length - 1);
      const below = Math.min(MAGMA.length - 2, Math.floor(place));
      const rgb = MAGMA[below].map((low, i) => low + (place - below) * (MAGMA[below + 1][i] - low));
      image.data.set([...rgb, 255], 4 * ((bins - 1 - bin) * columns.length + x));
    }),
  );
  const canvas = new OffscreenCanvas(columns.length, bins);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export class Picture {
  /** `peak` is the amplitude at the edge of the waveform; without a spectrogram it is a mere time line. */
  constructor(engine, { peak = 1, spectrogram = true } = {}) {
    Object.assign(this, { engine, peak, hasSpectrogram: spectrogram, reference: null, images: new Map() });
    this.root = element("div", { class: "cb-picture", role: "slider", tabindex: "0", "aria-label": "Position" });
    this.canvas = element("canvas", { class: spectrogram ? "" : "cb-flat", "aria-hidden": "true" });
    this.region = element("div", { class: "cb-region", hidden: "" });
    this.cursor = element("div", { class: "cb-cursor" });
    this.root.append(this.canvas, this.region, this.cursor);
    this.root.addEventListener("pointerdown", (event) => this.drag(event));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.place();
  }

  forget(peak) {
    Object.assign(this, { peak, reference: null, images: new Map() });
  }

  /** Draw a clip; `reference`, the clip whose loudest bin is 0 dB, is the first one that is drawn. */
  async draw(key, referenceKey = key) {
    const buffer = await this.engine.decode(key);
    const rate = this.engine.rate;
    const samples = buffer.getChannelData(0);
    if (this.hasSpectrogram && !this.images.has(key)) {
      const spectrum = spectrogram(samples, rate);
      if (this.reference === null) {
        const other = referenceKey === key ? null : (await this.engine.decode(referenceKey)).getChannelData(0);
        this.reference = loudest(other ? spectrogram(other, rate) : spectrum);
      }
      this.images.set(key, spectrogramImage(spectrum, this.reference));
    }
    const scale = Math.min(2, devicePixelRatio || 1);
    const [width, height] = [this.canvas.clientWidth * scale, this.canvas.clientHeight * scale].map(Math.round);
    Object.assign(this.canvas, { width, height });
    const pen = this.canvas.getContext("2d");
    const top = this.hasSpectrogram ? Math.round(0.32 * height) : height;
    pen.fillStyle = "#56a0d3"; // seen on white and on black
    for (let x = 0; x < width; x++) {
      let low = 0;
      let high = 0;
      const end = Math.ceil(((x + 1) * samples.length) / width);
      for (let i = Math.floor((x * samples.length) / width); i < end; i++) {
        low = Math.min(low, samples[i]);
        high = Math.max(high, samples[i]);
      }
      const [from, to] = [high, low].map((value) => (top / 2) * (1 - Math.max(-1, Math.min(1, value / this.peak))));
      pen.fillRect(x, from, 1, Math.max(1, to - from));
    }
    if (!this.hasSpectrogram) return;
    pen.drawImage(this.images.get(key), 0, top + 2 * scale, width, height - top - 2 * scale);
    pen.fillStyle = "#fff";
    pen.font = `${11 * scale}px sans-serif`;
    pen.fillText(`${+(rate / 2000).toFixed(1)} kHz`, 4 * scale, top + 14 * scale);
    pen.fillText("0", 4 * scale, height - 4 * scale);
  }

  /** Show where the sound is and what repeats. */
  place() {
    const { engine } = this;
    const percent = (frame) => `${(100 * frame) / engine.frames}%`;
    const seconds = (frame) => (frame / engine.rate).toFixed(2);
    const [start, end] = engine.loop;
    const whole = end - start === engine.frames;
    this.cursor.style.left = percent(engine.at());
    if (!this.dragging) this.mark(whole ? [0, 0] : engine.loop);
    const told = Math.floor((4 * engine.at()) / engine.rate) / 4; // a screen reader need not hear every frame
    const loop = whole ? "" : `, loop ${seconds(start)} to ${seconds(end)} s`;
    const text = `${told.toFixed(2)} s of ${seconds(engine.frames)} s${loop}`;
    if (this.told === text) return;
    this.told = text;
    const values = { valuemin: 0, valuemax: seconds(engine.frames), valuenow: told, valuetext: text };
    for (const [name, value] of Object.entries(values)) this.root.setAttribute(`aria-${name}`, value);
  }

  mark([start, end]) {
    this.region.hidden = start === end;
    this.region.style.left = `${(100 * start) / this.engine.frames}%`;
    this.region.style.width = `${(100 * (end - start)) / this.engine.frames}%`;
  }

  /** A click moves the sound; a drag marks the stretch that repeats. */
  drag(down) {
    const box = this.root.getBoundingClientRect();
    const frame = (event) => ((event.clientX - box.left) / box.width) * this.engine.frames;
    const moved = (event) => Math.abs(event.clientX - down.clientX) > 4;
    this.dragging = true;
    this.root.setPointerCapture(down.pointerId);
    const move = (event) => moved(event) && this.mark([frame(down), frame(event)].sort((a, b) => a - b));
    const up = (event) => {
      this.dragging = false;
      this.root.removeEventListener("pointermove", move);
      if (event.type === "pointerup" && moved(event)) this.engine.setLoop(frame(down), frame(event));
      else if (event.type === "pointerup") this.engine.seek(frame(event));
      this.place();
    };
    this.root.addEventListener("pointermove", move);
    for (const type of ["pointerup", "pointercancel"]) this.root.addEventListener(type, up, { once: true });
  }

  onKey(event) {
    const { engine } = this;
    const steps = { ArrowLeft: -0.1, ArrowRight: 0.1, PageDown: -1, PageUp: 1, Home: -1e6, End: 1e6 };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    const [start, end] = engine.loop;
    engine.seek(Math.min(end - 1, Math.max(start, engine.at() + steps[event.key] * engine.rate)));
    this.place();
    event.preventDefault();
  }
}

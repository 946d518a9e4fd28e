// Takes of one sound on one clock: decoded once, started in step, and switched by their gains alone.
// All widgets of this folder are built on it. It needs nothing but Web Audio.

const LEAD_S = 0.02; // between asking for sound and its first sample
const FADE_S = 0.003; // time constant of a switch: 99 % after 14 ms, and no click
const PATIENCE_MS = 1500;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Return a clip's file as a buffer that a decoder may take away; data is a data URI or a view of bytes. */
function fileBytes(data) {
  if (typeof data !== "string") return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  return Uint8Array.from(atob(data.slice(data.indexOf(",") + 1)), (c) => c.charCodeAt(0)).buffer;
}

/** Let a context run; what keeps it from running is thrown as a sentence for the reader. */
async function running(context) {
  await Promise.race([context.resume().catch(() => {}), wait(PATIENCE_MS)]);
  if (context.state !== "running") {
    throw new Error("The browser does not let this page sound yet: press Play again, or allow sound in its settings.");
  }
  const before = context.currentTime;
  for (let waited_ms = 0; context.currentTime === before; waited_ms += 10) {
    if (waited_ms > PATIENCE_MS) {
      throw new Error("No audio device answers: connect one or choose another output, and press Play again.");
    }
    await wait(10);
  }
}

/** Positions are frames of a timeline that all takes share; it repeats, or the stretch `loop` of it does. */
export class Engine {
  /** `data(key)` gives a clip's file; `context` is for tests, and otherwise made by the first `play`. */
  constructor({ rate, seconds, data, context = null }) {
    this.data = data;
    this.context = context;
    this.voices = new Map(); // by key: {source, gain, buffer} of what runs, heard or not
    this.origin = null; // {time, position} of the start while something runs
    this.resize({ rate, seconds });
    this.chosen = { key: null, gain: 1 };
    this.hush = (event) => event.detail !== this && this.stop();
    document.addEventListener("codecbook-play", this.hush); // one player sounds at a time
  }

  get playing() {
    return this.origin !== null;
  }

  get duration() {
    return this.frames / this.rate;
  }

  /** Decode a clip, once, at the timeline's rate: samples of clips at this rate stay what they are. */
  decode(key) {
    if (!this.buffers.has(key)) {
      const decoding = (async () => {
        const decoder = new OfflineAudioContext(1, 1, this.rate);
        return this.padded(await decoder.decodeAudioData(fileBytes(this.data(key))));
      })();
      decoding.catch(() => this.buffers.delete(key));
      this.buffers.set(key, decoding);
    }
    return this.buffers.get(key);
  }

  /** A clip of another length gets silence at its end or is cut, so that all loops stay in step. */
  padded(buffer) {
    if (buffer.length === this.frames) return buffer;
    const channels = buffer.numberOfChannels;
    const whole = new AudioBuffer({ length: this.frames, numberOfChannels: channels, sampleRate: this.rate });
    for (let c = 0; c < channels; c++) whole.copyToChannel(buffer.getChannelData(c).subarray(0, this.frames), c);
    return whole;
  }

  /** The position at a time of the context, now by default. */
  at(time = this.context?.currentTime ?? 0) {
    if (!this.origin) return this.position;
    const [start, end] = this.loop;
    const passed = Math.max(0, Math.round((time - this.origin.time) * this.rate));
    return start + ((this.origin.position - start + passed) % (end - start));
  }

  /** Give up all clips but some. */
  forget(keys) {
    for (const key of this.buffers.keys()) if (!keys.includes(key)) this.buffers.delete(key);
  }

  /** Go on with a timeline of another length or rate. */
  resize({ rate, seconds }) {
    this.stop();
    this.rate = Math.min(96000, Math.max(8000, rate)); // what every browser decodes to
    this.frames = Math.max(1, Math.round(seconds * this.rate));
    this.buffers = new Map(); // by key: a promise of samples as long as the timeline
    this.loop = [0, this.frames];
    this.position = 0; // while nothing runs
  }

  async play() {
    const { key } = this.chosen;
    if (!this.context) {
      try {
        this.context = new AudioContext({ sampleRate: this.rate });
      } catch {
        this.context = new AudioContext(); // a browser that has one rate only
      }
    }
    const [buffer] = await Promise.all([this.decode(key), running(this.context)]);
    if (this.playing) return;
    document.dispatchEvent(new CustomEvent("codecbook-play", { detail: this }));
    this.origin = { time: this.next(), position: this.at() };
    this.join(key, buffer);
    await this.choose(this.chosen.key, this.chosen.gain); // another one, where it was chosen meanwhile
  }

  stop() {
    this.position = this.at();
    this.origin = null;
    for (const key of [...this.voices.keys()]) this.leave(key);
  }

  /** Make one take heard. The one before sounds on until this one is decoded, and then fades into it. */
  async choose(key, gain = 1) {
    this.chosen = { key, gain };
    if (!this.playing) return;
    const buffer = await this.decode(key);
    if (!this.playing || this.chosen.key !== key) return;
    this.join(key, buffer);
    for (const [other, voice] of [...this.voices]) {
      if (other !== key && !this.buffers.has(other)) this.leave(other); // given up while it was heard
      else voice.gain.gain.setTargetAtTime(other === key ? gain : 0, this.context.currentTime, FADE_S);
    }
  }

  /** Decode takes that may be chosen next, and let them run unheard. */
  async prepare(keys) {
    for (const key of keys) {
      const buffer = await this.decode(key);
      if (this.playing) this.join(key, buffer);
    }
  }

  /** Move to a position in frames; outside of the loop, to its start. */
  seek(position) {
    this.jump(() => {
      const [start, end] = this.loop;
      this.position = position >= start && position < end ? Math.round(position) : start;
    });
  }

  /** Repeat a stretch, given in frames in either order; one below 20 ms means the whole timeline. */
  setLoop(from, to) {
    this.jump(() => {
      const ends = [from, to].map((frame) => Math.round(Math.min(this.frames, Math.max(0, frame))));
      const [start, end] = ends.sort((a, b) => a - b);
      this.loop = end - start < 0.02 * this.rate ? [0, this.frames] : [start, end];
      if (this.position < this.loop[0] || this.position >= this.loop[1]) this.position = this.loop[0];
    });
  }

  jump(change) {
    const running = this.playing ? [...this.voices].map(([key, voice]) => [key, voice.buffer]) : null;
    this.stop();
    change();
    if (!running) return;
    this.origin = { time: this.next(), position: this.position };
    for (const [key, buffer] of running) this.join(key, buffer);
    this.choose(this.chosen.key, this.chosen.gain);
  }

  /** The next whole frame of the context for which there is time. */
  next() {
    return Math.ceil((this.context.currentTime + LEAD_S) * this.context.sampleRate) / this.context.sampleRate;
  }

  join(key, buffer) {
    if (this.voices.has(key)) return;
    const [start, end] = this.loop.map((frame) => frame / this.rate);
    const gain = new GainNode(this.context, { gain: 0 });
    const source = new AudioBufferSourceNode(this.context, { buffer, loop: true, loopStart: start, loopEnd: end });
    source.connect(gain).connect(this.context.destination);
    const time = Math.max(this.origin.time, this.next());
    // a hair inside of the frame that is meant: n / rate * rate may lie below n, and browsers round down
    source.start(time, (this.at(time) + 1e-6) / this.rate);
    this.voices.set(key, { source, gain, buffer });
  }

  leave(key) {
    const { source, gain } = this.voices.get(key);
    const now = this.context.currentTime;
    gain.gain.setTargetAtTime(0, now, FADE_S);
    source.stop(now + 8 * FADE_S);
    this.voices.delete(key);
  }

  close() {
    this.stop();
    document.removeEventListener("codecbook-play", this.hush);
    this.context?.close?.();
    this.context = null;
  }
}

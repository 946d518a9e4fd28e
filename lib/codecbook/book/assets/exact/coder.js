// From logits to codes: section 4.3 of docs/stream-format.md.

const EXP_TABLE = powerTable(24);
const FULL = 1n << 56n, LEAST = 1n << 48n;

export class SegmentError extends Error {}

/** Write the counts of logits `[V]`: the end of each code's share of 2^20. */
export function exactCounts(logits, cdf, sums) {
  const V = logits.length;
  let top = logits[0], total = 0;
  for (let v = 1; v < V; v++) if (logits[v] > top) top = logits[v];
  for (let v = 0; v < V; v++) {
    const distance = top - logits[v];
    if (distance < 6144) total += EXP_TABLE[distance];
    sums[v] = total;
  }
  const scale = Math.floor(((2 ** 20 - V) * 2 ** 32) / total); // a quotient of integers below 2^53 rounds down rightly
  for (let v = 0; v < V - 1; v++) cdf[v] = v + 1 + Math.floor(sums[v] * scale * 2 ** -32);
  cdf[V - 1] = 2 ** 20;
}

/** Let a bias learn from a code: Int32Array `[V]` in 2^-12 unit, limited to 2^26. */
function learn(bias, cdf, code, step) {
  for (let v = 0, before = 0; v < bias.length; before = cdf[v++]) {
    bias[v] = Math.max(bias[v] - ((step * (cdf[v] - before)) >> 8), -(2 ** 26));
  }
  bias[code] = Math.min(bias[code] + step * 2 ** 12, 2 ** 26);
}

/** The range decoder. Its window has 56 bits, more than a double: the one place where BigInt is needed. */
class RangeDecoder {
  constructor(data) {
    this.data = data;
    this.offset = 0n;
    this.range = FULL;
    this.position = 0;
    while (this.position < 7) this.shift();
  }

  shift() {
    this.offset = (this.offset << 8n) | BigInt(this.data[this.position++] ?? 0);
  }

  symbol(cdf, ends) {
    const unit = this.range >> 20n, target = Number(this.offset / unit);
    if (target >= 2 ** 20) throw new SegmentError("its bytes point beyond all codes");
    let least = 0, end = cdf.length;
    while (least < end) {
      const middle = (least + end) >> 1;
      if (cdf[middle] <= target) least = middle + 1;
      else end = middle;
    }
    ends[0] = least ? cdf[least - 1] : 0;
    ends[1] = cdf[least];
    this.offset -= unit * BigInt(ends[0]);
    this.range = unit * BigInt(ends[1] - ends[0]);
    while (this.range < LEAST) {
      if (this.position >= this.data.length + 6) throw new SegmentError("its bytes are used up");
      this.shift();
      this.range <<= 8n;
    }
    return least;
  }

  finish() {
    const isEnd = this.position === this.data.length + 6 && this.offset < LEAST;
    if (!isEnd) throw new SegmentError("its bytes are not those of its codes");
  }
}

/** FNV-1a over the ends of intervals, in two halves of 32 bits: the prime is 2^40 + 435. */
class IntervalHash {
  constructor() {
    this.low = 0x84222325 | 0;
    this.high = 0xcbf29ce4 | 0;
  }

  add(end) {
    const low = this.low ^ end, product = (low >>> 0) * 435;
    this.high = (Math.imul(this.high, 435) + Math.floor(product * 2 ** -32) + (low << 8)) | 0;
    this.low = product | 0;
  }
}

/**
 * Decode a segment's rows and return `{rows, low, high}`: codes, Uint32Array `[T K]`, and halves of the interval hash.
 * Yields the number of frames that are done, after each. `step` is that of adaptation, 0 for none. `trace(logits, cdf,
 * ends)` is called with those of each frame, Int32Array `[K V]`, `[K V]` and `[K 2]`.
 */
export function* decodeExact(evaluator, payload, numRows, step, trace) {
  const { codebook_sizes: sizes, rotary, window_frames: W } = evaluator.config, K = sizes.length, V = sizes[0];
  const coder = new RangeDecoder(payload), hash = new IntervalHash(), rows = new Uint32Array(numRows * K);
  const logits = new Int32Array(K * V), cdf = new Int32Array(K * V), ends = new Int32Array(K * 2);
  const sums = new Float64Array(V), part = (array, k, size) => array.subarray(k * size, (k + 1) * size);
  const parts = sizes.map((_, k) => [part(logits, k, V), part(cdf, k, V), part(ends, k, 2)]);
  const biases = sizes.map(() => new Int32Array(step ? V : 0));
  for (let t = 0; t < numRows; t++) {
    const row = part(rows, t, K);
    if (t === 0 || (rotary && t % W === 0)) evaluator.start();
    else evaluator.read(part(rows, t - 1, K));
    for (let k = 0; k < K; k++) {
      const [z, counts, own] = parts[k];
      evaluator.logits(k, row, z);
      biases[k].forEach((bias, v) => (z[v] += (bias + 2 ** 11) >> 12));
      exactCounts(z, counts, sums);
      row[k] = coder.symbol(counts, own);
      if (step) learn(biases[k], counts, row[k], step);
      hash.add(own[0]);
      hash.add(own[1]);
    }
    trace?.(logits, cdf, ends);
    yield t + 1;
  }
  coder.finish();
  return { rows, low: hash.low >>> 0, high: hash.high >>> 0 };
}

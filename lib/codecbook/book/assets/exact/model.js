// Exact language models, from docs/exact-lm.md alone: `ExactModel` reads a model's own file, `Evaluator` computes.
//
// Every number is an integer. Sums of products fit 32 bits; wider ones are doubles below 2^53, which are exact, and so
// is their product with a power of two: `Math.floor(x * 2 ** -s)` is `x >> s`.

const TYPES = {
  I8: [Int8Array, "int8"], I16: [Int16Array, "int16"], I32: [Int32Array, "int32"], I64: [BigInt64Array, "int64"],
};
const STREAM_MAX = 2 ** 20 - 1;

/** Return `E[d] = floor(2^(bits - d/256) + 1/2)` for d from 0 to 256 bits - 1. */
function powerTable(bits) {
  const roots = Array.from({ length: 256 }, (_, f) => {
    const exponent = 256 * (bits + 1) - f;
    return Number(integerRoot(1n << BigInt(exponent), 256n, 2 ** (exponent / 256)));
  });
  return Int32Array.from({ length: 256 * bits }, (_, d) => ((roots[d & 255] >> (d >> 8)) + 1) >> 1);
}

const SHARE_TABLE = powerTable(16);
SHARE_TABLE[4095] = 0; // stands for all greater distances

export class ModelError extends Error {}

export class ExactModel {
  /** Read the bytes of a `model.safetensors`; its shape follows from that of its arrays. ModelError: it is none. */
  constructor(bytes) {
    if (!PLATFORM_IS_LITTLE_ENDIAN) throw new ModelError("This decoder needs a little-endian machine.");
    const length = bytes.length < 8 ? 0 : Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    let entries;
    try {
      entries = Object.entries(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))));
    } catch {
      throw new ModelError("These bytes are no model: a safetensors file begins with its length and a JSON object.");
    }
    this.arrays = new Map();
    const digest = new Sha256();
    for (const [name, entry] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (name === "__metadata__") continue;
      const [Type, type] = TYPES[entry?.dtype] ?? [], shape = entry?.shape, [start, end] = entry?.data_offsets ?? [];
      const count = Array.isArray(shape) ? shape.reduce((a, b) => a * b, 1) : NaN;
      const isThere = start >= 0 && 8 + length + end <= bytes.length;
      if (!Type || !isThere || end - start !== count * Type.BYTES_PER_ELEMENT) {
        throw new ModelError("An array of this model is cut off, or of a type that exact models do not have.");
      }
      const values = new Type(bytes.slice(8 + length + start, 8 + length + end).buffer); // a copy is aligned
      this.arrays.set(name, { values, shape });
      digest.update(`${name}:torch.${type}:[${shape.join(", ")}];`).update(values);
    }
    const has = (name) => this.arrays.has(name), shape = (name) => this.arrays.get(name)?.shape ?? [];
    const [K, V] = shape("logits.weight"), [layers, hidden, dim] = shape("layers.inner.weight");
    const rotary = has("rotation.cosine"), conditioned = has("project.weight");
    const window = rotary ? shape("rotation.cosine")[0] : shape("layers.position_bias")[2];
    const config = { // keys in the order of the alphabet, as the identity has them
      codebook_sizes: Array(Math.min(K, 1024) || 0).fill(V), conditioned, dim,
      head_dim: conditioned ? shape("head_norm.gain")[0] : 0,
      head_hidden: conditioned ? shape("head_inner.weight")[0] : 0,
      heads: shape("layers.score.multiplier")[1], hidden, layers, rotary, window_frames: window,
    };
    this.config = config;
    this.sha256 = new Sha256().update(`codecbook exact LM 1\n${JSON.stringify(config)}\n${digest.hex()}`).hex();
  }
}

/** Return `REQ` for one shift, in parts: what is added, and what the sum is multiplied by. */
const rounding = (shift) => [2 ** (shift - 1), 2 ** -shift];

/**
 * Return a matrix `[rows, width]` as doubles that hold the weights of two rows each, `w + 2^27 w'`: eight rows, then
 * the next eight, input by input. The certificate has all sums of products below 2^24, so that a sum of such doubles
 * stays below 2^52, is exact, and falls apart into the sums of both rows.
 */
function paired(weight, rows, width) {
  const pairs = new Float64Array(Math.ceil(rows / 8) * 4 * width);
  for (let o = 0; o < rows; o++) {
    const place = (o >> 3) * 4 * width + (o & 3), scale = o & 4 ? 2 ** 27 : 1;
    for (let i = 0; i < width; i++) pairs[place + 4 * i] += weight[o * width + i] * scale;
  }
  return pairs;
}

/** Write the products of all rows of `paired` weights and `input`. */
function products(pairs, width, rows, input, out) {
  for (let o = 0, n = 0; o < rows; o += 8) {
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < width; i++, n += 4) {
      const x = input[i];
      a += pairs[n] * x;
      b += pairs[n + 1] * x;
      c += pairs[n + 2] * x;
      d += pairs[n + 3] * x;
    }
    const e = Math.floor(a * 2 ** -27 + 0.5), f = Math.floor(b * 2 ** -27 + 0.5);
    const g = Math.floor(c * 2 ** -27 + 0.5), h = Math.floor(d * 2 ** -27 + 0.5);
    out[o] = a - e * 2 ** 27; out[o + 1] = b - f * 2 ** 27;
    out[o + 2] = c - g * 2 ** 27; out[o + 3] = d - h * 2 ** 27;
    out[o + 4] = e; out[o + 5] = f; out[o + 6] = g; out[o + 7] = h;
  }
}

function linear(matrix, input, out) {
  const { pairs, multiplier, rows, width, half, unit } = matrix;
  products(pairs, width, rows, input, out);
  for (let o = 0; o < rows; o++) out[o] = Math.floor((out[o] * multiplier[o] + half) * unit);
}

/** Add `REQ` of a table's row to a sum. */
function addRow(table, row, sum) {
  const { weight, multiplier, width, half, unit } = table, m = multiplier[row];
  for (let i = 0, p = row * width; i < width; i++) sum[i] += Math.floor((weight[p + i] * m + half) * unit);
}

function saturate(x) {
  for (let i = 0; i < x.length; i++) x[i] = Math.max(-STREAM_MAX, Math.min(STREAM_MAX, x[i]));
}

function addSaturated(x, y) {
  for (let i = 0; i < x.length; i++) x[i] = Math.max(-STREAM_MAX, Math.min(STREAM_MAX, x[i] + y[i]));
}

const clip = (a, m) => (a > m ? m : a < -m ? -m : a);

function normalise({ gain, half, unit, epsilon }, x, out) {
  let sum = epsilon;
  for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
  let root = Math.floor(Math.sqrt(sum)); // a seed: the language does not promise how sqrt rounds
  if (root * root > sum) root--;
  if ((root + 1) * (root + 1) <= sum) root++;
  const reciprocal = Math.floor(2 ** 40 / root);
  for (let i = 0; i < x.length; i++) {
    const u = Math.floor((x[i] * reciprocal + 2 ** 19) * 2 ** -20);
    out[i] = clip(Math.floor((u * gain[i] + half) * unit), 127);
  }
}

function gelu(table, x) {
  for (let i = 0; i < x.length; i++) x[i] = table[Math.max(-2048, Math.min(2047, x[i])) + 2048];
}

/** Reads one sequence, frame by frame; `logits` are those of the frame that comes next. */
export class Evaluator {
  constructor(model) {
    const c = (this.config = model.config), K = c.codebook_sizes.length;
    const values = (name, layer, count) => {
      const all = model.arrays.get(name).values, size = all.length / count;
      return all.subarray(layer * size, (layer + 1) * size);
    };
    const shift = (name, layer) => rounding(Number(model.arrays.get(`${name}.shift`).values[layer]));
    const table = (name, part = 0, count = 1) => {
      const [half, unit] = shift(name, name.startsWith("layers.") ? part : 0);
      const [weight, multiplier] = ["weight", "multiplier"].map((kind) => values(`${name}.${kind}`, part, count));
      return { weight, multiplier, rows: multiplier.length, width: weight.length / multiplier.length, half, unit };
    };
    const matrix = (...place) => {
      const { weight, ...rest } = table(...place);
      return { pairs: paired(weight, rest.rows, rest.width), ...rest };
    };
    const norm = (name, epsilon, part = 0, count = 1) => {
      const [half, unit] = shift(name, part);
      return { gain: values(`${name}.gain`, part, count), half, unit, epsilon: Number(values(epsilon, 0, 1)[0]) };
    };
    const L = c.layers, D = c.dim, int = (length) => new Int32Array(length);
    this.layers = Array.from({ length: L }, (_, i) => ({
      attentionNorm: norm("layers.attention_norm", "epsilon", i, L),
      queryKeyValue: matrix("layers.query_key_value", i, L),
      score: { multiplier: values("layers.score.multiplier", i, L), rounding: shift("layers.score", i) },
      bias: c.rotary ? int(c.heads * c.window_frames) : values("layers.position_bias", i, L),
      mix: { multiplier: values("layers.mix.multiplier", i, L), rounding: shift("layers.mix", i) },
      output: matrix("layers.output", i, L), feedForwardNorm: norm("layers.feed_forward_norm", "epsilon", i, L),
      inner: matrix("layers.inner", i, L), table: values("layers.gelu", i, L), outer: matrix("layers.outer", i, L),
      keys: int(c.window_frames * D), values: int(c.window_frames * D), // slot p mod W holds position p
    }));
    this.embedding = table("embedding");
    this.norm = norm("norm", "epsilon");
    this.heads = Array.from({ length: K }, (_, k) => matrix("logits", k, K));
    if (c.rotary) this.rotation = ["cosine", "sine"].map((part) => values(`rotation.${part}`, 0, 1));
    if (c.conditioned) {
      this.project = Array.from({ length: K }, (_, k) => matrix("project", k, K));
      this.frameEmbedding = table("frame_embedding");
      this.headNorm = norm("head_norm", "head_epsilon"), this.logitsNorm = norm("logits_norm", "head_epsilon");
      this.headInner = matrix("head_inner"), this.headOuter = matrix("head_outer");
      this.headTable = values("head_gelu", 0, 1);
      this.p = int(c.head_dim), this.pq = int(c.head_dim), this.pAdd = int(c.head_dim), this.g = int(c.head_hidden);
    }
    this.x = int(D), this.q = int(D), this.hidden = int(D), this.add = int(D), this.f = int(c.hidden);
    this.qkv = int(3 * D), this.scores = int(c.window_frames);
  }

  /** Forget everything; the next frame is the first. */
  start() {
    this.position = 0;
    this.read(this.config.codebook_sizes);
  }

  /** Read the codes of a frame; V stands for BOS. */
  read(codes) {
    const { x, q, f, add, config } = this, rows = config.codebook_sizes[0] + 1;
    x.fill(0);
    for (let k = 0; k < codes.length; k++) addRow(this.embedding, k * rows + codes[k], x);
    saturate(x);
    for (const layer of this.layers) {
      normalise(layer.attentionNorm, x, q);
      linear(layer.queryKeyValue, q, this.qkv);
      this.attend(layer, q);
      linear(layer.output, q, add);
      addSaturated(x, add);
      normalise(layer.feedForwardNorm, x, q);
      linear(layer.inner, q, f);
      gelu(layer.table, f);
      linear(layer.outer, f, add);
      addSaturated(x, add);
    }
    normalise(this.norm, x, this.hidden);
    this.position++;
  }

  /** Write attention's activations of all heads into `out`, and keep this frame's keys and values. */
  attend(layer, out) {
    const { qkv, scores, position, config } = this, { dim: D, heads, window_frames: W } = config, d = D / heads;
    if (config.rotary) for (let h = 0; h < 2 * heads; h++) this.rotate(h * d, d / 2);
    for (let i = 0; i < 3 * D; i++) qkv[i] = clip(qkv[i], 127);
    const { keys, values } = layer, newest = position % W, seen = Math.min(position + 1, W);
    keys.set(qkv.subarray(D, 2 * D), newest * D);
    values.set(qkv.subarray(2 * D), newest * D);
    const [half, unit] = layer.score.rounding, [mixHalf, mixUnit] = layer.mix.rounding;
    for (let h = 0; h < heads; h++) {
      const m = layer.score.multiplier[h], first = h * d;
      let top = -Infinity, total = 0;
      for (let t = 0; t < seen; t++) {
        const place = ((newest - t + W) % W) * D + first;
        let sum = 0;
        for (let i = 0; i < d; i++) sum = (sum + Math.imul(qkv[first + i], keys[place + i])) | 0;
        scores[t] = Math.floor((sum * m + half) * unit) + layer.bias[h * W + t];
        if (scores[t] > top) top = scores[t];
      }
      for (let t = 0; t < seen; t++) total += scores[t] = SHARE_TABLE[Math.min(top - scores[t], 4095)];
      const reciprocal = Math.floor(2 ** 40 / total);
      out.fill(0, first, first + d);
      for (let t = 0; t < seen; t++) {
        const share = Math.floor((scores[t] * reciprocal + 2 ** 23) * 2 ** -24);
        const place = ((newest - t + W) % W) * D;
        for (let i = first; i < first + d; i++) out[i] += Math.imul(share, values[place + i]);
      }
      for (let i = first; i < first + d; i++) {
        out[i] = clip(Math.floor((out[i] * layer.mix.multiplier[i] + mixHalf) * mixUnit), 127);
      }
    }
  }

  /** Turn one head's query or key, `2 half` wide. */
  rotate(first, half) {
    const { qkv } = this, [cosine, sine] = this.rotation;
    for (let i = first, j = this.position * half; i < first + half; i++, j++) {
      const a = clip(qkv[i], 4095), b = clip(qkv[i + half], 4095);
      qkv[i] = (a * cosine[j] - b * sine[j] + 2 ** 17) >> 18;
      qkv[i + half] = (b * cosine[j] + a * sine[j] + 2 ** 17) >> 18;
    }
  }

  /** Write the logits of codebook `k`, given the codes below it in the row. */
  logits(k, row, out) {
    if (!this.config.conditioned) return linear(this.heads[k], this.hidden, out);
    const { p, pq, pAdd, g } = this, V = this.config.codebook_sizes[0];
    linear(this.project[k], this.hidden, p);
    for (let j = 0; j < k; j++) addRow(this.frameEmbedding, j * V + row[j], p);
    saturate(p);
    normalise(this.headNorm, p, pq);
    linear(this.headInner, pq, g);
    gelu(this.headTable, g);
    linear(this.headOuter, g, pAdd);
    addSaturated(p, pAdd);
    normalise(this.logitsNorm, p, pq);
    linear(this.heads[k], pq, out);
  }
}

// Streams, from docs/stream-format.md alone: where everything lies, what is damaged, what the codes are.
//
// A file is anybody's: lengths are checked before anything is made of them, and what takes long yields, so that a page
// can stop it.

export const MAX_FILE_BYTES = 2 ** 26;
const MAX_SEGMENTS = 100000, MAX_SEGMENT_CODES = 2 ** 20;
const MAGIC = [0x89, 0x43, 0x42, 0x53, 0x0d, 0x0a, 0x1a, 0x0a];
const CODECS = ("encodec_24khz encodec_48khz snac_24khz snac_32khz snac_44khz dac_16khz dac_24khz dac_44khz mimi " +
  "neucodec lyra_v2 fsq_50hz units_25hz").split(" ");

const NOT_FOUND = "not found: its bytes are lost, or the header that begins them is damaged";

/** What is said to the reader of a file that is no stream, or of another version. */
export class StreamError extends Error {}
/** Bytes that end too early, or are no field of a stream. */
class FieldError extends Error {}

class Fields {
  constructor(bytes, place = 0) {
    this.bytes = bytes;
    this.place = place;
  }

  take(count) {
    this.place += count;
    if (!(count >= 0 && this.place <= this.bytes.length)) throw new FieldError("it is cut off");
    return this.bytes.subarray(this.place - count, this.place);
  }

  u(count) {
    return this.take(count).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  varint() {
    let value = 0, scale = 1, byte;
    do {
      [byte] = this.take(1);
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte > 127 && scale <= 2 ** 63);
    if (value > Number.MAX_SAFE_INTEGER || (byte === 0 && scale > 128)) throw new FieldError("a number is too long");
    return value;
  }

  number(of) {
    const step = this.varint();
    if (step % 2 === 0) return of(step / 2);
    if (step !== 1) throw new FieldError("a number is not as it is written");
    return new DataView(this.take(8).slice().buffer).getFloat64(0, true);
  }

  text(usual) {
    const length = this.varint();
    if (!length) return usual;
    const text = new TextDecoder("utf-8", { fatal: true }).decode(this.take(length - 1));
    if (text === usual || length > 4097) throw new FieldError("a text is not as it is written");
    return text;
  }
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Say whether the four bytes at `end` are the CRC-32 of those before, and of the stream's id where that is given. */
function sealed(bytes, start, end, id = []) {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(end, true) === crc32(id, bytes.subarray(start, end));
}

function parseBody(body) {
  const f = new Fields(body), flags = f.varint(), bit = (n) => Math.floor(flags / 2 ** n) % 2 === 1;
  const h = { exact: bit(0), order: (flags >> 1) & 3, hasScales: bit(8) };
  h.sampleRate = f.varint(), h.channels = f.varint(), h.rowsPerSegment = f.varint(), h.numRows = f.u(4);
  h.numSegments = bit(9) ? f.u(4) : Math.ceil(h.numRows / h.rowsPerSegment);
  h.numSamples = f.u(5);
  if (h.numSamples === 2 ** 40 - 1) h.numSamples = null;
  if (bit(3)) h.kbps = f.number((n) => n / 1000);
  if (bit(5)) h.sourceKbps = f.number((n) => n / 1000);
  if (bit(6)) h.midCodebooks = f.varint();
  [h.codecSegmentFrames, h.codecSegmentStride] = bit(7) ? [f.varint(), f.varint()] : [0, 0];
  if (bit(10)) [h.members, h.parities, h.groups] = [f.varint(), f.varint(), f.varint()];
  h.id = f.take(4).slice();
  if (bit(4)) h.codecSha256 = hex(f.take(6));
  if (bit(11)) h.audioSha256 = hex(f.take(16));
  if (bit(12)) h.exactSha256 = hex(f.take(6));
  h.adaptStep = bit(13) ? f.varint() : 0;
  h.sizes = [], h.rates = [];
  for (let runs = f.varint(); runs > 0; runs--) {
    const count = f.varint(), size = f.varint(), rate = f.number((n) => h.sampleRate / n);
    const isNew = size !== h.sizes.at(-1) || rate !== h.rates.at(-1);
    const isPossible = isNew && count >= 1 && count + h.sizes.length <= 1024 && rate > 0 && rate < Infinity;
    if (!isPossible) throw new FieldError("its codebooks are none");
    for (let i = 0; i < count; i++) h.sizes.push(size), h.rates.push(rate);
  }
  const number = f.varint();
  h.codec = number ? CODECS[number - 1] ?? "of an unknown number" : f.text("-");
  h.weights = f.text(`bundled: ${h.codec}_mini`);
  if (h.exact) [h.lmSha256, h.lmName] = [hex(f.take(6)), f.text(`lm_${h.codec}_mini`)];
  h.columns = columnsOf(h);
  const codes = h.rowsPerSegment * h.columns.length, { members = 1, parities = 1, groups = 1 } = h;
  const isPossible = f.place === body.length && codes >= 1 && codes <= MAX_SEGMENT_CODES && h.columns.length <= 1024 &&
    h.columns.every((size) => size >= 2 && size <= 2 ** 31) && h.numSegments <= h.numRows &&
    h.adaptStep <= (h.exact ? 1023 : 0) &&
    Math.ceil(h.numRows / h.rowsPerSegment) <= h.numSegments &&
    Math.min(members, parities, groups) >= 1 && members + parities <= 256 && groups <= 4096;
  if (!isPossible) throw new FieldError("it contradicts itself");
  return h;
}

function columnsOf({ order, sizes }) {
  if (order === 0) return sizes;
  if (order === 1 && sizes.length <= 10) {
    const below = (level) => (level < sizes.length ? [level, ...below(level + 1), ...below(level + 1)] : []);
    return below(0).map((level) => sizes[level]);
  }
  const digits = (size) => Math.max(1, Math.ceil((32 - Math.clz32(size - 1)) / 8));
  if (order === 2) return sizes.flatMap((size) => Array(digits(size)).fill(256));
  throw new FieldError("its rows are of an unknown order");
}

/** Return what the header block at a place says, or null where there is none; `copy` is the second one's form. */
function headerAt(bytes, place, copy) {
  const f = new Fields(bytes, place);
  try {
    if (copy) {
      if (f.u(2) !== 0x48c5) return null;
      const length = f.varint();
      if (length > 16384) return null;
      const body = f.take(length);
      f.take(4);
      return sealed(bytes, place, f.place - 4) ? { ...parseBody(body), end: f.place } : null;
    }
    if (f.take(8).some((byte, i) => byte !== MAGIC[i])) return null;
    const version = f.u(2), length = f.u(4);
    if (length > 16384) return null;
    const body = f.take(length);
    f.take(4);
    if (!sealed(bytes, place, f.place - 4)) return null;
    if (version !== 2) {
      throw new StreamError(`This stream is of version ${version} of the format, and this page reads version 2. ` +
        (version < 2 ? "Python reads it: python -m codecbook.coding." : "A later codecbook reads it."));
    }
    return { ...parseBody(body), end: f.place };
  } catch (error) {
    if (error instanceof FieldError || error instanceof TypeError || error instanceof RangeError) return null;
    throw error;
  }
}

function* findHeader(bytes, stream) {
  const lead = headerAt(bytes, 0, false), tail = bytes.length >= 6 ? new Fields(bytes, bytes.length - 6) : null;
  const footer = tail && bytes.length - tail.u(4), isTail = tail && tail.u(2) === 0x5342 && footer > 0;
  let copy = isTail ? headerAt(bytes, footer, true) : null;
  if (!isTail) stream.notes.push("The last bytes are not the stream's: it is cut off, goes on, or is damaged.");
  else if (!copy) stream.notes.push("The second copy of the header is damaged, or of another stream.");
  else if (copy.end > bytes.length - 10 || !sealed(bytes, copy.end, bytes.length - 10, copy.id)) {
    stream.notes.push("The index of segments is damaged.");
  }
  if (lead) return lead;
  for (let place = 1; !copy && place < bytes.length; place++) {
    if (bytes[place] === 0xc5 && bytes[place + 1] === 0x48) copy = headerAt(bytes, place, true);
    if (place % 65536 === 0) yield 0;
  }
  if (copy) {
    stream.notes.push("The first copy of the header is damaged; the second was used.");
    return { ...copy, end: 0 };
  }
  const mark = String.fromCharCode(...bytes.subarray(0, 4));
  if (mark === "ECDC") throw new StreamError("This is an .ecdc stream of EnCodec, not of codecbook.");
  if (mark === "\x89CBR") {
    throw new StreamError("This stream lies within an inner code, which this page does not undo; Python reads it: " +
      "python -m codecbook.coding.");
  }
  const isDamaged = mark === "\x89CBS";
  throw new StreamError(isDamaged ? "No copy of the stream's header can be read." : "This is no stream of codecbook.");
}

/** Return what the header of a segment, or of one of parity, at a place says; null where there is none. */
function segmentAt(bytes, h, place) {
  const f = new Fields(bytes, place);
  try {
    const mark = f.u(2);
    if (mark !== 0x53c5 && (mark !== 0x50c5 || !h.members)) return null;
    const index = f.varint(), isParity = mark === 0x50c5;
    let numRows = 0, firstRow = 0, payloadBytes = 0, check = null;
    if (isParity) {
      const size = h.members * h.groups, block = Math.floor(index / h.groups / h.parities) * size;
      const members = Math.ceil((Math.min(block + size, h.numSegments) - block - (index % h.groups)) / h.groups);
      for (let i = 0; i < members; i++) payloadBytes = Math.max(payloadBytes, f.varint());
    } else {
      numRows = f.varint();
      [numRows, firstRow] = numRows ? [numRows, f.varint()] : [h.rowsPerSegment, index * h.rowsPerSegment];
      payloadBytes = f.varint();
      check = hex(f.take(8));
    }
    const crc = f.u(4);
    if (crc16(h.id, bytes.subarray(place, f.place)) !== f.u(2)) return null;
    const isPossible = isParity || (index < h.numSegments && numRows >= 1 && numRows <= h.rowsPerSegment &&
      firstRow + numRows <= h.numRows && payloadBytes <= (4 * h.columns.length + 8) * numRows + 64);
    if (!isPossible) return null;
    const places = { offset: place, payload: f.place, end: f.place + payloadBytes };
    return { index, numRows, firstRow, payloadBytes, check, crc, isParity, ...places };
  } catch (error) {
    if (error instanceof FieldError) return null;
    throw error;
  }
}

/**
 * Find everything in a stream; a generator, whose result is `{header, segments, lost, parity, notes}`.
 *
 * Segments and what is lost, `{index, count, reason}`, are in the order of their numbers. StreamError: it is none.
 */
export function* openStream(bytes) {
  const stream = { notes: [], parity: 0, segments: [], lost: [] }, found = new Map();
  const h = (stream.header = yield* findHeader(bytes, stream));
  let place = h.end, isSearching = h.end === 0, last = null; // where to look next, whether for marks
  let number = -1, expected = h.end || Infinity, moved = false;
  for (;;) {
    const segment = segmentAt(bytes, h, place);
    if (!segment) {
      // where neither a segment nor the end follows, the last one has lost bytes, and reaches into the next one
      const isEnd = isSearching || !last || place === bytes.length || headerAt(bytes, place, true);
      place = bytes.indexOf(0xc5, isEnd ? place + 1 : last.payload);
      if (place < 0) break;
      isSearching = true;
      yield 0;
      continue;
    }
    if (segment.isParity) stream.parity++;
    else if (!found.has(segment.index)) found.set(segment.index, segment);
    else if (stream.notes.length < 20) stream.notes.push(`Segment ${segment.index} is there twice; the first counts.`);
    if (found.size > MAX_SEGMENTS) throw new StreamError(`This page reads up to ${MAX_SEGMENTS} segments.`);
    if (last && segment.offset < last.end) {
      last.refused = `it should end at byte ${last.end}, and the next begins at ${segment.offset}: bytes are lost`;
    }
    if (!segment.isParity) {
      moved ||= segment.index < number || (segment.index === number + 1 && expected < segment.offset);
      number = segment.index;
    }
    last = segment;
    place = expected = segment.end;
    isSearching = false;
    yield 0;
  }
  if (moved) stream.notes.push("Bytes are of no segment, or segments are not in the order of their numbers.");
  let next = 0, row = 0;
  for (const segment of [...found.values()].sort((a, b) => a.index - b.index)) {
    const missing = segment.index - next;
    if (missing) stream.lost.push({ index: next, count: missing, reason: NOT_FOUND });
    if (segment.firstRow < row + missing || segment.firstRow > row + missing * h.rowsPerSegment) {
      segment.refused ??= `its header says that it begins at row ${segment.firstRow}, which does not follow row ${row}`;
    }
    stream.segments.push(segment);
    next = segment.index + 1;
    row = segment.firstRow + segment.numRows;
  }
  if (next < h.numSegments) stream.lost.push({ index: next, count: h.numSegments - next, reason: NOT_FOUND });
  return stream;
}

/** Return where a row begins, in seconds. */
export function startOfRow(h, row) {
  if (!(h.codecSegmentFrames && h.codecSegmentStride && h.sampleRate)) return row / h.rates[0];
  const whole = Math.floor(row / h.codecSegmentFrames);
  return (whole * h.codecSegmentStride) / h.sampleRate + (row - whole * h.codecSegmentFrames) / h.rates[0];
}

function checkSide(h, numRows, f) {
  let segments = 1;
  if (h.codecSegmentFrames) {
    const full = f.varint(), others = f.varint();
    let rows = full * h.codecSegmentFrames, before = h.codecSegmentFrames;
    if (full + others > numRows) throw new SegmentError("its side information claims too much");
    for (let i = 0; i < others; i++) {
      const frames = f.varint();
      if (frames < 1 || frames > before) throw new SegmentError("a segment of its codec is longer than the one before");
      rows += before = frames;
    }
    segments = full + others;
    if (rows !== numRows || !segments) throw new SegmentError("its codec's segments do not make up its rows");
  }
  if (h.hasScales) {
    const scales = new DataView(f.take(4 * segments).slice().buffer);
    for (let i = 0; i < segments; i++) {
      if (!Number.isFinite(scales.getFloat32(4 * i, true))) throw new SegmentError("a scale in it is not finite");
    }
  }
}

function unpackRaw(data, columns, numRows) {
  const rows = new Uint32Array(numRows * columns.length), widths = columns.map((size) => 32 - Math.clz32(size - 1));
  const bits = numRows * widths.reduce((a, b) => a + b, 0);
  if (data.length !== Math.ceil(bits / 8)) throw new SegmentError("its bytes are not as many as its codes take");
  if (bits % 8 && data[data.length - 1] >> (bits % 8)) throw new SegmentError("bits are set after its last code");
  for (let i = 0, place = 0; i < rows.length; i++) {
    const column = i % columns.length;
    let value = 0;
    for (let bit = 0; bit < widths[column]; bit++, place++) value += ((data[place >> 3] >> (place & 7)) & 1) * 2 ** bit;
    if (value >= columns[column]) throw new SegmentError("a code in it is beyond its codebook");
    rows[i] = value;
  }
  return { rows, low: 0, high: 0 };
}

/** Return what is wrong with a segment that can be told without decoding it, or "". */
export function problemOf(bytes, segment) {
  if (segment.refused) return segment.refused;
  const { payload, end, payloadBytes } = segment;
  if (end > bytes.length) return `${bytes.length - payload} of its ${payloadBytes} bytes are there`;
  const isIntact = crc32(bytes.subarray(payload, end)) === segment.crc;
  return isIntact ? "" : "its payload's checksum differs: bytes in it are damaged";
}

/**
 * Decode a segment and make every check; a generator of the frames that are done, whose result are the rows.
 *
 * `evaluator` is that of the language model that the stream names, null for a raw stream; for `trace` see
 * `decodeExact`. SegmentError says what is wrong.
 */
export function* decodeSegment(bytes, header, segment, evaluator, trace) {
  const problem = problemOf(bytes, segment);
  if (problem) throw new SegmentError(problem);
  const payload = bytes.subarray(segment.payload, segment.end), f = new Fields(payload);
  try {
    checkSide(header, segment.numRows, f);
  } catch (error) {
    throw error instanceof FieldError ? new SegmentError("its side information is cut off") : error;
  }
  const coded = payload.subarray(f.place), { index, firstRow, numRows } = segment;
  const { rows, low, high } = evaluator
    ? yield* decodeExact(evaluator, coded, numRows, header.adaptStep, trace)
    : unpackRaw(coded, header.columns, numRows);
  const digest = new Sha256().update(header.id).update(Uint32Array.of(index, firstRow, numRows, low, high));
  if (digest.update(payload.subarray(0, f.place)).update(rows).hex().slice(0, 16) !== segment.check) {
    throw new SegmentError(`the ${evaluator ? "intervals or " : ""}codes do not pass their checksum`);
  }
  return rows;
}

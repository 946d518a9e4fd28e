// Checksums, in integers. The parts of this folder are joined into one module, in the order that browser_decoder.py
// names: there is no import, as a report is one file.
//
// SHA-256 is written out because the browser's own (crypto.subtle) is not there on pages that came by plain http, and
// only hands out promises, while a decoder wants a digest at every step.

const PLATFORM_IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Return the whole part of the k-th root of `value`, both BigInt. The float seed only saves time. */
export function integerRoot(value, k, seed) {
  let root = BigInt(Math.floor(seed));
  while (root ** k > value) root -= 1n;
  while ((root + 1n) ** k <= value) root += 1n;
  return root;
}

// FIPS 180-4: the first 32 bits of the fractions of the roots of the first primes
const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (prime, k) =>
  Number(integerRoot(BigInt(prime) << (32n * k), k, prime ** (1 / Number(k)) * 2 ** 32) & 0xffffffffn);
const ROUNDS = Int32Array.from(PRIMES, (prime) => fraction(prime, 3n));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(prime, 2n));

export class Sha256 {
  constructor() {
    this.state = START.slice();
    this.words = new Int32Array(64);
    this.block = new Uint8Array(64);
    this.filled = 0;
    this.length = 0;
  }

  /** Take bytes, or the bytes of a typed array, or ASCII text. */
  update(data) {
    if (typeof data === "string") data = Uint8Array.from(data, (c) => c.charCodeAt(0));
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.length += bytes.length;
    let place = 0;
    if (this.filled) {
      place = Math.min(64 - this.filled, bytes.length);
      this.block.set(bytes.subarray(0, place), this.filled);
      this.filled += place;
      if (this.filled < 64) return this;
      this.compress(this.block, 0);
    }
    for (; place + 64 <= bytes.length; place += 64) this.compress(bytes, place);
    this.block.set(bytes.subarray(place));
    this.filled = bytes.length - place;
    return this;
  }

  compress(bytes, place) {
    const w = this.words, state = this.state;
    for (let i = 0, p = place; i < 16; i++, p += 4) {
      w[i] = (bytes[p] << 24) | (bytes[p + 1] << 16) | (bytes[p + 2] << 8) | bytes[p + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0;
      d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    const sums = [a, b, c, d, e, f, g, h];
    for (let i = 0; i < 8; i++) state[i] += sums[i];
  }

  /** Return the digest as 64 hexadecimal digits; nothing can be added after that. */
  hex() {
    const bits = this.length * 8, end = new Uint8Array(((this.filled < 56 ? 56 : 120) - this.filled) + 8);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(end.length - 4, bits >>> 0);
    this.update(end);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

const CRC32 = Int32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** Return zlib's CRC-32 of parts, one after the other. */
export function crc32(...parts) {
  let value = -1;
  for (const bytes of parts) {
    for (let i = 0; i < bytes.length; i++) value = CRC32[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  }
  return ~value >>> 0;
}

/** Return the CRC-16 of XMODEM of parts, one after the other. */
export function crc16(...parts) {
  let value = 0;
  for (const bytes of parts) {
    for (const byte of bytes) {
      value ^= byte << 8;
      for (let bit = 0; bit < 8; bit++) value = value & 0x8000 ? ((value << 1) ^ 0x1021) & 0xffff : value << 1;
    }
  }
  return value;
}

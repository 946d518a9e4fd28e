"""A second decoder of codecbook streams, written from docs/stream-format.md and docs/exact-lm.md alone.

Plain Python and its standard library, one symbol at a time: it shares no line with the package, so that a test which
compares the two finds whatever the texts leave out.
"""

import hashlib
import json
import math
import struct
import zlib


class Refused(Exception):
    """Something in the stream is not as the text says."""


def check(condition, what):
    if not condition:
        raise Refused(what)


# --- framing: sections 1 to 7 of stream-format.md

CODECS = "encodec_24khz encodec_48khz snac_24khz snac_32khz snac_44khz dac_16khz dac_24khz dac_44khz"
CODECS = [*CODECS.split(), "mimi", "neucodec", "lyra_v2", "fsq_50hz", "units_25hz"]


class Fields:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        check(self.at + count <= len(self.data), "bytes")
        self.at += count
        return self.data[self.at - count : self.at]

    def u(self, count):
        return int.from_bytes(self.take(count), "little")

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def number(self):
        value = self.varint()
        return struct.unpack("<d", self.take(8))[0] if value == 1 else value // 2 / 1000

    def rate(self, sample_rate):
        value = self.varint()
        return struct.unpack("<d", self.take(8))[0] if value == 1 else sample_rate / (value // 2)

    def text(self, usual):
        length = self.varint()
        return self.take(length - 1).decode("utf-8") if length else usual


def parse_body(body):
    f = Fields(body)
    flags = f.varint()
    header = {"flags": flags, "order": flags >> 1 & 3}
    header |= {name: f.varint() for name in ("sample_rate_hz", "channels", "rows_per_segment")}
    header["num_rows"] = f.u(4)
    header["num_segments"] = f.u(4) if flags & 512 else -(-header["num_rows"] // header["rows_per_segment"])
    header["num_samples"] = f.u(5)
    header["bandwidth_kbps"] = f.number() if flags & 8 else None
    header["source_bitrate_kbps"] = f.number() if flags & 32 else None
    header["mid_codebooks"] = f.varint() if flags & 64 else None
    header["segment_frames"], header["stride"] = (f.varint(), f.varint()) if flags & 128 else (0, 0)
    header["parity"] = [f.varint() for _ in range(3)] if flags & 1024 else None
    header["stream_id"] = f.take(4)
    header["codec_sha256"] = f.take(6) if flags & 16 else b""
    header["audio_sha256"] = f.take(16) if flags & 2048 else b""
    header["exact_sha256"] = f.take(6) if flags & 4096 else b""
    header["adapt_step"] = f.varint() if flags & 8192 else 0
    header["sizes"], header["rates"] = [], []
    for _ in range(f.varint()):
        count, size = f.varint(), f.varint()
        rate = f.rate(header["sample_rate_hz"])
        header["sizes"] += [size] * count
        header["rates"] += [rate] * count
    number = f.varint()
    codec = header["codec"] = CODECS[number - 1] if number else f.text("-")
    header["weights"] = f.text(f"bundled: {codec}_mini")
    if flags & 1:
        header["lm_sha256"] = f.take(6)
        header["lm_name"] = f.text(f"lm_{codec}_mini")
    check(f.at == len(body), "length of the body")
    return header


def sealed(data, start, end, before=b""):
    return zlib.crc32(before + data[start:end]) == int.from_bytes(data[end : end + 4], "little")


def crc16(data):
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 & 0xFFFF) ^ (0x1021 if value & 0x8000 else 0)
    return value


def decode(data, model=None):
    """Return (header, codes per codebook, codec segments, scales) of an undamaged stream."""
    magic, version, length = struct.unpack_from("<8sHI", data, 0)
    check(magic == b"\x89CBS\r\n\x1a\n" and version == 2 and sealed(data, 0, 14 + length), "header")
    body = data[14 : 14 + length]
    header = parse_body(body)
    footer = len(data) - int.from_bytes(data[-6:-2], "little")
    check(data[-2:] == b"BS" and footer > 0, "tail")
    copy = Fields(data, footer)
    check(copy.take(2) == b"\xc5H", "mark of the second copy")
    check(copy.take(copy.varint()) == body and sealed(data, footer, copy.at), "second copy of the header")
    index_at = copy.at + 4
    check(sealed(data, index_at, len(data) - 10, header["stream_id"]), "index")
    lengths = [int.from_bytes(data[i : i + 3], "little") for i in range(index_at, len(data) - 10, 3)]
    rows, frames, scales = [], [], []
    start = 14 + length + 4
    done, block = 0, []
    members, parities, groups = header["parity"] or (1 << 40, 0, 1)
    lengths.reverse()
    while done < header["num_segments"]:
        end = start + lengths.pop()
        decode_segment(data[start:end], header, done, model, (rows, frames, scales))
        block.append(data[start:end])
        start, done = end, done + 1
        if len(block) == members * groups or done == header["num_segments"]:
            first = (done - 1) // (members * groups) * parities
            h = min(groups, len(block))
            for p in range(parities):
                for q in [(len(block) + i) % h for i in range(h)]:
                    end = start + lengths.pop()
                    check_parity(data[start:end], header, (first + p) * groups + q, p, block[q::groups])
                    start = end
            block = []
    check(start == footer and not lengths and len(rows) == header["num_rows"], "length")
    if header["flags"] & 256 and not header["flags"] & 128:
        scales = scales[:1]
    return header, codes_of_rows(header, rows), frames, scales


def times(a, b):
    product = 0
    for i in range(8):
        product ^= (a << i) * (b >> i & 1)
    for i in range(14, 7, -1):
        product ^= (0x11D << (i - 8)) * (product >> i & 1)
    return product


def check_parity(data, header, number, p, members):
    f = Fields(data)
    check(f.take(2) == b"\xc5P" and f.varint() == number, "number of a parity")
    check([f.varint() for _ in members] == [len(member) for member in members], "lengths in a parity")
    crc = f.u(4)
    check(f.u(2) == crc16(header["stream_id"] + data[: f.at - 2]), "checksum of a parity's header")
    payload = data[f.at :]
    check(zlib.crc32(payload) == crc and len(payload) == max(map(len, members)), "payload of a parity")
    total = [0] * len(payload)
    for j, member in enumerate(members):
        factor = next(c for c in range(1, 256) if times(c, (255 - p) ^ j) == 1)
        for i, byte in enumerate(member):
            total[i] ^= times(factor, byte)
    check(bytes(total) == payload, "sum of a parity")


def columns_of(header):
    sizes = header["sizes"]
    if header["order"] == 0:
        return sizes
    if header["order"] == 1:
        return [sizes[level] for level in levels(len(sizes))]
    return [256] * sum(digits(size) for size in sizes)


def levels(count):
    if count == 0:
        return []
    below = [level + 1 for level in levels(count - 1)]
    return [0, *below, *below]


def digits(size):
    return max(1, -(-(size - 1).bit_length() // 8))


def codes_of_rows(header, rows):
    sizes = header["sizes"]
    codes = [[] for _ in sizes]
    for row in rows:
        if header["order"] == 0:
            for k, code in enumerate(row):
                codes[k].append(code)
        elif header["order"] == 1:
            for level, code in zip(levels(len(sizes)), row, strict=True):
                codes[level].append(code)
        else:
            place = 0
            for k, size in enumerate(sizes):
                code = 0
                for _ in range(digits(size)):
                    code = 256 * code + row[place]
                    place += 1
                codes[k].append(code)
    return codes


def decode_segment(data, header, number, model, out):
    f = Fields(data)
    check(f.take(2) == b"\xc5S" and f.varint() == number, "number of a segment")
    num_rows, first_row = f.varint(), number * header["rows_per_segment"]
    if num_rows == 0:
        num_rows = header["rows_per_segment"]
    else:
        first_row = f.varint()
    check(first_row == len(out[0]), "first row")
    payload_bytes, digest, crc = f.varint(), f.take(8), f.u(4)
    check(f.u(2) == crc16(header["stream_id"] + data[: f.at - 2]), "checksum of a segment's header")
    payload = data[f.at :]
    check(len(payload) == payload_bytes and zlib.crc32(payload) == crc, "payload checksum")
    f, frames, scales = Fields(payload), [], []
    if header["flags"] & 128:
        full, others = f.varint(), f.varint()
        frames = [header["segment_frames"]] * full + [f.varint() for _ in range(others)]
        check(sum(frames) == num_rows, "segments of the codec")
    if header["flags"] & 256:
        count = max(1, len(frames))
        scales = list(struct.unpack(f"<{count}f", f.take(4 * count)))
    side, coded = payload[: f.at], payload[f.at :]
    columns = columns_of(header)
    if not header["flags"] & 1:
        rows, interval_hash = unpack_raw(coded, columns, num_rows), 0
    else:
        check(model is not None and bytes.fromhex(model.identity)[:6] == header["lm_sha256"], "language model")
        rows, interval_hash = decode_exact(coded, model, num_rows, header["adapt_step"])
    packed = header["stream_id"] + struct.pack("<IIIQ", number, first_row, num_rows, interval_hash) + side
    packed += b"".join(struct.pack(f"<{len(columns)}I", *row) for row in rows)
    check(hashlib.sha256(packed).digest()[:8] == digest, "checksum of the codes")
    out[0].extend(rows)
    out[1].extend(frames)
    out[2].extend(scales)


def unpack_raw(data, columns, num_rows):
    widths = [(size - 1).bit_length() for size in columns]
    check(len(data) == -(-num_rows * sum(widths) // 8), "bytes of raw codes")
    bits = int.from_bytes(data, "little")
    rows = []
    for _ in range(num_rows):
        row = []
        for size, width in zip(columns, widths, strict=True):
            row.append(bits & ((1 << width) - 1))
            bits >>= width
            check(row[-1] < size, "code beyond its codebook")
        rows.append(row)
    check(bits == 0, "bits after the last code")
    return rows


# --- entropy coding: section 4.3 of stream-format.md


class RangeDecoder:
    def __init__(self, data):
        self.data, self.position, self.range = data, 7, 1 << 56
        self.offset = int.from_bytes((data + bytes(7))[:7], "big")

    def symbol(self, cumulative):
        unit = self.range >> 20
        target = self.offset // unit
        check(target < 1 << 20, "beyond all symbols")
        value = next(v for v in range(len(cumulative) - 1) if target < cumulative[v + 1])
        low, high = cumulative[value], cumulative[value + 1]
        self.offset -= unit * low
        self.range = unit * (high - low)
        while self.range < 1 << 48:
            check(self.position < len(self.data) + 6, "payload used up")
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.offset = (self.offset << 8) | byte
            self.range <<= 8
            self.position += 1
        return value, low, high


def root_table(bits, octaves):
    roots = []
    for f in range(256):
        root = 1 << ((bits + 1) * 256 - f)
        for _ in range(8):
            root = math.isqrt(root)
        roots.append(root)
    return [((root >> octave) + 1) >> 1 for octave in range(octaves) for root in roots]


COUNT_TABLE = root_table(24, 24)
SHARE_TABLE = [*root_table(16, 16)[:-1], 0]


def cumulative_counts(logits):
    top, total, sums = max(logits), 0, []
    for logit in logits:
        distance = top - logit
        total += COUNT_TABLE[distance] if distance < 6144 else 0
        sums.append(total)
    scale = (((1 << 20) - len(logits)) << 32) // total
    inner = [v + 1 + ((sums[v] * scale) >> 32) for v in range(len(logits) - 1)]
    return [0, *inner, 1 << 20]


def decode_exact(data, model, num_rows, step):
    coder = RangeDecoder(data)
    state = 0xCBF29CE484222325
    rows, biases = [], [{} for _ in range(model.K)]
    for t in range(num_rows):
        if t == 0 or (model.rotary and t % model.window == 0):
            model.start()
        else:
            model.read(rows[-1])
        row = []
        for bias in biases:
            logits = [z + ((bias.get(v, 0) + 2**11) >> 12) for v, z in enumerate(model.logits(row))]
            ends = cumulative_counts(logits)
            value, low, high = coder.symbol(ends)
            if step:
                for v in range(len(logits)):
                    moved = bias.get(v, 0) - ((step * (ends[v + 1] - ends[v])) >> 8)
                    bias[v] = max(moved, -(2**26))
                bias[value] = min(bias[value] + step * 2**12, 2**26)
            row.append(value)
            for end in (low, high):
                state = ((state ^ end) * 0x100000001B3) % (1 << 64)
        rows.append(row)
    check(coder.position - 6 == len(data), "bytes of the payload")
    check(coder.offset < 1 << 48, "end of the payload")
    return rows, state


# --- the language model: exact-lm.md


def read_safetensors(data):
    (length,) = struct.unpack_from("<Q", data)
    formats = {"I8": ("b", 1), "I16": ("h", 2), "I32": ("i", 4), "I64": ("q", 8)}
    arrays = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        code, size = formats[entry["dtype"]]
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = list(struct.unpack(f"<{(end - start) // size}{code}", data[start:end]))
        arrays[name] = nested(values, entry["shape"])
    return arrays


def nested(values, shape):
    for size in reversed(shape[1:]):
        values = [values[i : i + size] for i in range(0, len(values), size)]
    return values


def clamp(value, limit):
    return max(-limit, min(limit, value))


def requantise(value, multiplier, shift):
    return (value * multiplier + (1 << (shift - 1))) >> shift


class PlainLM:
    """Evaluates an exact language model, one frame after the other."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        self.a = read_safetensors((folder / "model.safetensors").read_bytes())
        self.identity = config["identity"]
        arguments = config["arguments"]
        self.K, self.V = len(arguments["codebook_sizes"]), arguments["codebook_sizes"][0]
        self.L, self.H, self.D = arguments["layers"], arguments["heads"], arguments["dim"]
        self.window, self.rotary = arguments["window_frames"], arguments["rotary"]
        self.conditioned, self.P = arguments["conditioned"], arguments["head_dim"]

    def start(self):
        self.past, self.position = [[] for _ in range(self.L)], 0
        self.read([self.V] * self.K)

    def read(self, codes):
        rows = [self.row("embedding", k * (self.V + 1) + code) for k, code in enumerate(codes)]
        x = [clamp(sum(column), (1 << 20) - 1) for column in zip(*rows, strict=True)]
        for layer in range(self.L):
            x = self.add(x, self.attention(layer, x))
            y = self.norm("layers.feed_forward_norm", x, "epsilon", layer)
            y = self.gelu(self.linear("layers.inner", y, layer), self.a["layers.gelu"][layer])
            x = self.add(x, self.linear("layers.outer", y, layer))
        self.position += 1
        self.hidden = self.norm("norm", x, "epsilon")

    def logits(self, before):
        k, y = len(before), self.hidden
        if self.conditioned:
            x = self.linear("project", y)[k * self.P : (k + 1) * self.P]
            for j, code in enumerate(before):
                x = [a + b for a, b in zip(x, self.row("frame_embedding", j * self.V + code), strict=True)]
            x = [clamp(value, (1 << 20) - 1) for value in x]
            y = self.norm("head_norm", x, "head_epsilon")
            y = self.gelu(self.linear("head_inner", y), self.a["head_gelu"])
            y = self.norm("logits_norm", self.add(x, self.linear("head_outer", y)), "head_epsilon")
        shift = self.a["logits.shift"][0]
        return [
            requantise(dot(weights, y), multiplier, shift)
            for weights, multiplier in zip(self.a["logits.weight"][k], self.a["logits.multiplier"][k], strict=True)
        ]

    def attention(self, layer, x):
        y = self.norm("layers.attention_norm", x, "epsilon", layer)
        qkv = self.linear("layers.query_key_value", y, layer)
        d = self.D // self.H
        query, key, value = (
            [qkv[part * self.D + h * d : part * self.D + (h + 1) * d] for h in range(self.H)] for part in range(3)
        )
        value = [[clamp(v, 127) for v in head] for head in value]
        turn = self.rotate if self.rotary else lambda head: [clamp(v, 127) for v in head]
        query, key = [turn(head) for head in query], [turn(head) for head in key]
        self.past[layer] = [(key, value), *self.past[layer]][: self.window]
        mixed = []
        for h in range(self.H):
            scores = []
            for distance, (old_key, _) in enumerate(self.past[layer]):
                multiplier = self.a["layers.score.multiplier"][layer][h]
                score = requantise(dot(query[h], old_key[h]), multiplier, self.a["layers.score.shift"][layer])
                if not self.rotary:
                    score += self.a["layers.position_bias"][layer][h][distance]
                scores.append(score)
            shares = attention_shares(scores)
            mixed += [
                sum(share * old[h][i] for share, (_, old) in zip(shares, self.past[layer], strict=True))
                for i in range(d)
            ]
        shift = self.a["layers.mix.shift"][layer]
        mixed = [
            clamp(requantise(value, multiplier, shift), 127)
            for value, multiplier in zip(mixed, self.a["layers.mix.multiplier"][layer], strict=True)
        ]
        return self.linear("layers.output", mixed, layer)

    def rotate(self, head):
        half = len(head) // 2
        wide = [clamp(v, 4095) for v in head]
        cosine, sine = self.a["rotation.cosine"][self.position], self.a["rotation.sine"][self.position]
        first = [wide[i] * cosine[i] - wide[half + i] * sine[i] for i in range(half)]
        second = [wide[half + i] * cosine[i] + wide[i] * sine[i] for i in range(half)]
        return [clamp((v + (1 << 17)) >> 18, 127) for v in first + second]

    def norm(self, name, x, epsilon, layer=None):
        gain, shift = self.a[f"{name}.gain"], self.a[f"{name}.shift"][layer or 0]
        gain = gain if layer is None else gain[layer]
        root = math.isqrt(sum(v * v for v in x) + self.a[epsilon][0])
        reciprocal = (1 << 40) // root
        units = [(v * reciprocal + (1 << 19)) >> 20 for v in x]
        return [clamp(requantise(u, g, shift), 127) for u, g in zip(units, gain, strict=True)]

    def linear(self, name, y, layer=None):
        weight, multiplier = self.a[f"{name}.weight"], self.a[f"{name}.multiplier"]
        if layer is not None:
            weight, multiplier = weight[layer], multiplier[layer]
        shift = self.a[f"{name}.shift"][layer or 0]
        return [requantise(dot(row, y), m, shift) for row, m in zip(weight, multiplier, strict=True)]

    def row(self, name, number):
        shift, multiplier = self.a[f"{name}.shift"][0], self.a[f"{name}.multiplier"][number]
        return [requantise(v, multiplier, shift) for v in self.a[f"{name}.weight"][number]]

    @staticmethod
    def gelu(values, table):
        return [table[max(-2048, min(2047, v)) + 2048] for v in values]

    @staticmethod
    def add(x, y):
        return [clamp(a + b, (1 << 20) - 1) for a, b in zip(x, y, strict=True)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def attention_shares(scores):
    top = max(scores)
    powers = [SHARE_TABLE[min(top - score, 4095)] for score in scores]
    reciprocal = (1 << 40) // sum(powers)
    return [(power * reciprocal + (1 << 23)) >> 24 for power in powers]

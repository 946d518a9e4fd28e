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


# --- framing: sections 2 to 6 of stream-format.md


def parse_header(data, at):
    magic, version, length = struct.unpack_from("<8sHI", data, at)
    check(magic == b"\x89CBS\r\n\x1a\n", "magic")
    end = at + 14 + length
    check(zlib.crc32(data[at:end]) == struct.unpack_from("<I", data, end)[0], "header checksum")
    check(version == 1, "version")
    body = data[at + 14 : end]
    names = "coder order flags sample_rate_hz channels rows_per_segment num_rows num_segments num_samples"
    names += " bandwidth_kbps source_bitrate_kbps mid_codebooks codec_segment_frames codec_segment_stride"
    names = [*names.split(), "stream_id", "codec_sha256", "lm_sha256"]
    struct_text = "<BBHIHIIIQddHII8s32s32s"
    header = dict(zip(names, struct.unpack_from(struct_text, body, 0), strict=True))
    place = struct.calcsize(struct_text)
    (runs,) = struct.unpack_from("<H", body, place)
    place += 2
    header["sizes"], header["rates"] = [], []
    for _ in range(runs):
        count, size, rate = struct.unpack_from("<HId", body, place)
        header["sizes"] += [size] * count
        header["rates"] += [rate] * count
        place += 14
    for name in ("codec", "weights", "lm_name"):
        (length,) = struct.unpack_from("<H", body, place)
        header[name] = body[place + 2 : place + 2 + length].decode("utf-8")
        place += 2 + length
    check(place == len(body), "length of the body")
    return header, end + 4


def decode(data, model=None):
    """Return (header, codes per codebook, codec segments, scales) of an undamaged stream."""
    header, start = parse_header(data, 0)
    footer, total, crc, magic = struct.unpack_from("<QQI8s", data, len(data) - 28)
    check(magic == b"\n\x1a\n\rSBC\x89" and total == len(data), "tail")
    check(crc == zlib.crc32(data[-28:-12]), "tail checksum")
    copy, index_at = parse_header(data, footer)
    check(copy == header, "second copy of the header")
    index = data[index_at:-28]
    check(struct.unpack_from("<4sI", index) == (b"\xc5IDX", header["num_segments"]), "index")
    check(zlib.crc32(header["stream_id"] + index[:-4]) == struct.unpack("<I", index[-4:])[0], "index checksum")
    entries = list(struct.iter_unpack("<QI", index[8:-4]))
    rows, frames, scales = [], [], []
    for number in range(header["num_segments"]):
        check(entries[number][0] == start, "place of a segment")
        start = decode_segment(data, start, header, number, entries[number][1], model, (rows, frames, scales))
    check(start == footer and len(rows) == header["num_rows"], "length")
    if header["flags"] & 32 and not header["flags"] & 16:
        scales = scales[:1]
    return header, codes_of_rows(header, rows), frames, scales


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


def decode_segment(data, at, header, number, index_crc, model, out):
    fields = struct.unpack_from("<4sIIIII8sQI", data, at)
    magic, index, first_row, num_rows, payload_bytes, payload_crc, digest, interval_hash, crc = fields
    check(magic == b"\xc5SEG" and index == number and crc == index_crc, "segment header")
    check(crc == zlib.crc32(header["stream_id"] + data[at : at + 40]), "checksum of a segment's header")
    check(first_row == len(out[0]), "first row")
    end = at + 44 + payload_bytes
    payload = data[at + 44 : end]
    check(zlib.crc32(payload) == payload_crc, "payload checksum")
    place, frames = 0, []
    if header["flags"] & 16:
        (count,) = struct.unpack_from("<I", payload, 0)
        frames = list(struct.unpack_from(f"<{count}I", payload, 4))
        place = 4 + 4 * count
        check(sum(frames) == num_rows, "segments of the codec")
    scales = []
    if header["flags"] & 32:
        count = max(1, len(frames))
        scales = list(struct.unpack_from(f"<{count}f", payload, place))
        place += 4 * count
    columns = columns_of(header)
    if header["coder"] == 0:
        rows, found_hash = unpack_raw(payload[place:], columns, num_rows), 0
    else:
        check(model is not None and model.identity == header["lm_sha256"].hex(), "language model")
        rows, found_hash = decode_exact(payload[place:], model, num_rows)
    check(found_hash == interval_hash, "hash of the intervals")
    packed = payload[:place] + b"".join(struct.pack(f"<{len(columns)}I", *row) for row in rows)
    check(hashlib.sha256(packed).digest()[:8] == digest, "checksum of the codes")
    out[0].extend(rows)
    out[1].extend(frames)
    out[2].extend(scales)
    return end


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


def decode_exact(data, model, num_rows):
    coder = RangeDecoder(data)
    state = 0xCBF29CE484222325
    rows = []
    for t in range(num_rows):
        if t == 0 or (model.rotary and t % model.window == 0):
            model.start()
        else:
            model.read(rows[-1])
        row = []
        for _ in range(model.K):
            value, low, high = coder.symbol(cumulative_counts(model.logits(row)))
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

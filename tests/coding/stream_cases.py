"""Small streams of every kind, for the tests of streams."""

import functools

import numpy as np
import torch

from codecbook.coding import inspect
from codecbook.coding.stream import StreamReader, encode_tokens
from codecbook.coding.stream.segment import code_rows
from codecbook.coding.stream.version2 import pack_footer, pack_header, pack_segment
from codecbook.errors import CorruptInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig
from codecbook.tokens import Tokens


def parallel(num_rows=200, sizes=(16, 16, 16), seed=0, **metadata):
    rng = np.random.default_rng(seed)
    known = {"codec": "toy", "weights": "random: seed 0", "weights_sha256": "ab" * 6, "channels": 1}
    known |= {"sample_rate_hz": 1000, "num_samples": max(0, 20 * num_rows - 7), "bandwidth_kbps": 0.6, **metadata}
    codes = tuple(rng.integers(0, size, num_rows) for size in sizes)
    return Tokens(codes=codes, codebook_sizes=sizes, frame_rates_hz=(50.0,) * len(sizes), **known)


def tree(num_frames=60, levels=3, size=32, seed=1):
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, size, num_frames << level) for level in range(levels))
    rates = tuple(24_000 / 2048 * 2**level for level in range(levels))
    known = {"codec": "snac_24khz", "weights_sha256": "ab" * 6, "sample_rate_hz": 24_000, "channels": 1}
    return Tokens(codes, (size,) * levels, rates, **known)


def segmented(frames=(10, 10, 10, 10, 9, 3), scales=True, seed=2):
    gains = tuple(np.random.default_rng(seed).random(len(frames)).tolist()) if scales else ()
    return parallel(sum(frames), seed=seed, segment_frames=tuple(frames), scales=gains, channels=2)


KINDS = {
    "parallel": parallel(),
    "one codebook": parallel(sizes=(65_536,)),
    "odd sizes": parallel(sizes=(2, 3, 1000, 1 << 20)),
    "tree": tree(),
    "tree of two": tree(levels=2),
    "segments and scales": segmented(),
    "segments": segmented(scales=False),
    "two short last segments": segmented((10, 10, 9, 1)),
    "one gain": parallel(scales=(0.25,)),
    "mid and side": parallel(channels=2, mid_codebooks=2, source_bitrate_kbps=192.0),
    "nothing known": Tokens((np.arange(7),), (9,), (12.5,)),
    "no codes": parallel(0),
    "one code": parallel(1, sizes=(5,)),
}


@functools.cache
def exact_model(seed=0, codebooks=3, size=16) -> ExactLM:
    """A model of random weights, small enough for the plain decoder."""
    torch.manual_seed(seed)
    shape = RVQTransformerConfig(
        codebook_sizes=(size,) * codebooks, dim=16, layers=2, heads=2, hidden=32, window_frames=8, head_dim=16,
        head_hidden=24, dropout=0.0,
    )  # fmt: skip
    rows = np.random.default_rng(seed).integers(0, size, (60, codebooks))
    return export_exact(RVQTransformer(shape).eval(), [rows])


@functools.cache
def rotary_model() -> ExactLM:
    torch.manual_seed(3)
    shape = TinyGPTConfig(codebook_sizes=(16,), dim=16, layers=1, heads=2, hidden=32, context=8, dropout=0.0)
    return export_exact(TinyGPT(shape).eval(), [np.random.default_rng(3).integers(0, 16, (8, 1))])


def encoded(tokens, model=None, segment_s=1.0, adapt_step=0):
    name = "toy_lm" if model else ""
    return encode_tokens(tokens, model, lm_name=name, segment_s=segment_s, adapt_step=adapt_step)


def header_of(data):
    return inspect(data).header


def forged(header, segments, footer=True):
    """Make a stream with checksums that are right, around a header that need not be.

    Args:
        header: As the stream shall claim it.
        segments: In the order in which they shall stand in the stream.
        footer: Whether the second header, the index and the tail follow.
    """
    coded = code_rows(header, None, [segment.rows for segment in segments])
    packed = [pack_segment(header, segment, *rows) for segment, rows in zip(segments, coded, strict=True)]
    data = pack_header(header) + b"".join(packed)
    return data + pack_footer(header, map(len, packed)) if footer else data


def check_every_bit(data, tokens, model=None, every=1):
    """Change each bit of a stream, or every n-th; assert that it costs its segment, or nothing and is reported."""
    segments = inspect(data).segments
    inside = np.zeros(len(data), dtype=int) - 1
    for number, (start, end, _) in enumerate(segments):
        inside[start:end] = number
    for bit in range(0, 8 * len(data), every):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        result = outcome(bytes(changed), tokens, model)
        assert result is not None, f"bit {bit}: one bit never costs the whole stream"
        damage, notes = result
        if inside[bit // 8] < 0:
            assert (len(damage), len(notes)) == (0, 1), f"bit {bit} lies in a part that is there twice"
        else:
            assert [part.segment for part in damage] == [inside[bit // 8]], f"bit {bit} costs its own segment"
            start, end, _ = segments[inside[bit // 8]]
            assert (damage[0].first_byte, damage[0].end_byte) == (start, end)


def outcome(data, tokens, model=None):
    """Decode bytes that were damaged; assert that no code is wrong outside of what is reported; return the reports.

    Returns (damage, notes), or None where the whole stream was refused.
    """
    try:
        with StreamReader(data, model) as reader:
            read = reader.read()
            header = reader.header
    except CorruptInput:
        return None
    lost = np.zeros(header.num_rows, dtype=bool)
    for part in read.damage:
        lost[part.first_row : part.first_row + part.num_rows] = True
    wanted = header.layout.to_rows(tokens)
    found = header.layout.to_rows(read.tokens)
    kept = ~lost[: len(found)]
    assert header.num_rows == len(wanted)
    np.testing.assert_array_equal(found[kept], wanted[: len(found)][kept])
    assert lost[len(found) :].all()
    if not read.damage:
        assert read.tokens == tokens
    return read.damage, read.notes

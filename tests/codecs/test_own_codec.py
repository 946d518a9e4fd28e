"""The codec that CONTRIBUTING.md spells out, added just as it says."""

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codecbook import codecs
from codecbook.audio import clip_from_array
from codecbook.codecs import __main__ as command_line
from codecbook.codecs import adapters, registry
from codecbook.coding import compress, decompress
from codecbook.paths import repository_dir
from codecbook.tokens.token_files import read_token_file


@pytest.fixture
def mulaw(monkeypatch: pytest.MonkeyPatch, added: Callable) -> codecs.Codec:
    _, line = added("A new codec", adapters)
    monkeypatch.setattr(registry, "_ADAPTERS", {**registry._ADAPTERS, **ast.literal_eval(f"{{{line}}}")})
    return codecs.load_codec("mulaw_8khz", weights="random")


def test_the_codec_of_the_text_works(mulaw: codecs.Codec) -> None:
    noise = np.random.default_rng(0).standard_normal(8_000 * 11).astype(np.float32) / 8
    clip = clip_from_array(noise, 8_000, name="noise")
    tokens = mulaw.encode(clip)
    assert tokens.num_samples == clip.num_samples
    assert np.array_equal(tokens.codes[0], mulaw.encode(clip, chunk_s=1.0).codes[0])
    decoded = mulaw.decode(tokens)
    assert decoded.num_samples == clip.num_samples
    error = decoded.samples - clip.samples
    assert 10 * np.log10((clip.samples**2).sum() / (error**2).sum()) > 30, "8 bits of mu-law"
    stream = compress(clip, mulaw, lm=None)
    assert np.array_equal(decompress(stream, codec=mulaw).clip.samples, decoded.samples)


def test_the_command_line_has_it(mulaw: codecs.Codec, tmp_path: Path) -> None:
    clip = next((repository_dir() / "data/clips").glob("*.flac"))
    options = ["--codec", "mulaw_8khz", "--weights", "random", "--outdir", str(tmp_path / "out")]
    assert command_line.main(["export", str(clip), *options]) == 0
    (made,) = (tmp_path / "out").glob("*.npq")
    assert read_token_file(made).codec == mulaw.name

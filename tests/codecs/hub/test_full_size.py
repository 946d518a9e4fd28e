"""The published codecs at full size: from the hub, through encoder and decoder.

Their weights are noise, of the names, shapes and sizes of the published ones, so that nothing is said of sound.
"""

import os
import resource
import time

import numpy as np
import pytest

from codecbook.codecs import load_codec
from codecbook.codecs.adapters import encodec
from codecbook.codecs.registry import DOWNLOAD_MB

DURATION_S = float(os.environ.get("CODECBOOK_FULL_SIZE_S", "1"))
heavy = pytest.mark.skipif(
    "CODECBOOK_FULL_SIZE" not in os.environ,
    reason="takes minutes and 8 GB of memory; set CODECBOOK_FULL_SIZE to run it",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=heavy) if n == "neucodec" else n for n in DOWNLOAD_MB])
def test_a_published_codec_encodes_and_decodes(hub, publish_full_size, monkeypatch, tmp_path, noise_clip, name):
    file = publish_full_size(hub, name, tmp_path / "published")
    if name in encodec.CHECKPOINTS:
        monkeypatch.setitem(encodec.CHECKPOINTS, name, file.name)
    megabytes = file.stat().st_size / 1e6
    assert megabytes == pytest.approx(DOWNLOAD_MB[name], rel=0.02), "what a download is said to be"
    times_s = [time.process_time()]
    codec = load_codec(name, weights="pretrained")
    times_s.append(time.process_time())
    clip = noise_clip(codec, DURATION_S)
    tokens = codec.encode(clip)
    times_s.append(time.process_time())
    decoded = codec.decode(tokens)
    times_s.append(time.process_time())
    assert codec.weights.kind == "pretrained"
    assert tokens.weights == str(codec.weights)
    expected = [DURATION_S * rate_hz for rate_hz in codec.frame_rates_hz]
    assert [len(codes) for codes in tokens.codes] == pytest.approx(
        expected, rel=0.011, abs=12
    )  # overlaps, whole windows
    assert np.isfinite(decoded.samples).all()
    assert decoded.duration_s == pytest.approx(DURATION_S, abs=0.1)
    load_s, encode_s, decode_s = np.diff(times_s)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{name}: {load_s:.1f} {encode_s:.1f} {decode_s:.1f} s of CPU, {memory_mb:.0f} MB")

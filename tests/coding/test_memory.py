"""How much memory decoding takes: what is imported, and what grows with the stream."""

import dataclasses
import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.coding.stream import StreamReader, StreamWriter, encode_tokens
from codecbook.tokens import Tokens

STATUS = Path("/proc/self/status")
# the kernel's own mark of the process: resource.getrusage would count the parent's memory before the start too
DECODE = """
import sys
from pathlib import Path
from codecbook.coding import decompress_file
decompress_file(sys.argv[1], sys.argv[2])
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) * 1024)
"""


def test_decoders_do_not_import_what_only_others_need():
    script = "import codecbook.coding, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"vector_quantize_pytorch", "snac", "pyloudnorm", "transformers", "pandas", "torch._dynamo"}
    assert not heavy & set(done.stdout.split())


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_what_is_kept_of_each_segment_is_what_the_docstrings_say(tmp_path):
    tokens = Tokens((np.zeros(4000, dtype=np.int64),), (2,), (50.0,))
    rows = np.zeros((1, 1), dtype=np.int64)
    path = tmp_path / "many.cbs"
    tracemalloc.start()
    before = 0
    with path.open("wb") as file:
        writer = StreamWriter(file, tokens.format, segment_s=1e-9)  # a row each
        for number in range(4000):
            if number == 1000:  # what is allocated once is there
                before = _traced_bytes()
            writer.write(rows)
        written = _traced_bytes() - before
        writer.close()
    before = _traced_bytes()
    with StreamReader(path) as reader:
        assert reader.header.num_segments == 4000
        read = _traced_bytes() - before
    tracemalloc.stop()
    assert written / 3000 < 40  # 12, room to grow, and what the interpreter allocates meanwhile
    assert read / 4000 < 600


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="needs Linux, whose kernel keeps the peak of each process")
def test_memory_does_not_grow_with_the_stream(tmp_path):
    """Two lengths are compared, as what the libraries themselves take differs from one machine to the next."""
    codec = load_codec("encodec_24khz")
    rows = np.random.default_rng(0).integers(0, 1024, (11 * 60 * 75, 8))
    second = codec.encode(Clip(np.zeros((1, 24_000), dtype=np.float32), 24_000), bandwidth_kbps=6.0)
    peaks = []
    for minutes in (1, 11):
        frames = minutes * 60 * 75
        codes = tuple(np.ascontiguousarray(rows[:frames, k]) for k in range(8))
        tokens = dataclasses.replace(second, codes=codes, num_samples=frames * 320)
        stream = tmp_path / f"{minutes}.cbs"
        stream.write_bytes(encode_tokens(tokens))
        command = [sys.executable, "-c", DECODE, str(stream), str(tmp_path / f"{minutes}.wav")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    kept_samples = 10 * 60 * 24_000 * 4  # 58 MB: what a decoder that kept the whole clip would take on top
    assert peaks[1] - peaks[0] < kept_samples / 2, peaks

"""How fast tokens are coded: float models, which must step, against exact models in compiled code.

Upstream's model in torch says what this project's coder gains over the usual one. How much of that is due to integers,
and not to a compiler, says a float model of the same size that is compiled as well.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch

from codecbook.coding.ecdc.lm import UPSTREAM_SHAPE, Stepper, decode_steps, encode_steps
from codecbook.coding.exact.frames import decode_frames, decode_many, encode_frames, encode_many
from codecbook.errors import CorruptInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig
from codecbook.measure.statistics import Interval, median_interval
from codecbook.models.weights import seeded

DIRECTIONS = ("encode", "decode")
TOGETHER = tuple(f"{direction} side by side" for direction in DIRECTIONS)
"""The same of several segments at once."""
_PROBE_FRAMES = 8
_TOO_SLOW = 2.0


def same_size(
    num_codebooks: int, codebook_size: int, frame_rate_hz: float, codes: np.ndarray, seed: int = 0
) -> tuple[RVQTransformer, ExactLM]:
    """Build a float model of upstream's size with random weights, and the same in integers: for speed alone.

    Width, layers, feed-forward width and context are upstream's, and so are heads that do not see their own frame. It
    has 10 attention heads, as 200 channels do not divide into 8 heads of even width. The exact one is calibrated with
    codes ``[T, K]``.
    """
    shape = UPSTREAM_SHAPE
    config = RVQTransformerConfig(
        (codebook_size,) * num_codebooks, dim=int(shape["dim"]), layers=int(shape["layers"]), heads=10,
        hidden=int(shape["hidden"]), dropout=0.0, window_frames=int(shape["context_s"] * frame_rate_hz),
        conditioning="none",
    )  # fmt: skip
    with seeded(seed):
        model = RVQTransformer(config).eval()
    return model, export_exact(model, [codes])


def time_coders(
    codes: np.ndarray,
    floats: Mapping[str, Callable[[int], Stepper]],
    exact: Mapping[str, ExactLM],
    repeats: int = 6,
    threads: Sequence[int] = (1, 2),
    clock: Callable[[], float] | None = None,
    streams: int = 0,
) -> pd.DataFrame:
    """Time coders on the same frames, in turns, so that what slows the machine slows all of them.

    Float models step, as their encoder must compute what a decoder can, with this project's compiled arithmetic coder
    and without the check that a decoder makes; the exact decoder makes its own.

    Codes are integers ``[T, K]``, exact models are by name, and so is what makes a float model's stepper for so many
    threads. One round before the `repeats` is not counted. Numbers of `threads` with which a float model takes over
    twice as long on the first frames are left out. `clock` returns seconds; None is `time.perf_counter`. With
    `streams`, exact coders are also timed with that many at once, on each number of threads; times are then those of
    one of them.

    Returns:
        One row per coder, direction (`DIRECTIONS`, `TOGETHER`) and number of threads: ``coder``, ``direction``,
        ``threads`` (a single stream of the exact coder has one), ``frame_ms`` with ``_low`` and ``_high`` (milliseconds
        per frame, from tokens to bytes or back: the median of all rounds and its interval), ``processor_share``
        (processor time of the process over wall time, median, at most 1: below it, something else was running) and
        ``seconds`` (wall time of every repeat, in order).

    Raises:
        CorruptInput: A decoder returned other codes than were encoded.
    """
    (T, K), now = codes.shape, clock or perf_counter
    by_codebook = np.ascontiguousarray(codes.T)
    runs: dict[tuple[str, str, int], Callable[[], object]] = {}
    for name, make in floats.items():
        for count, stepper in _useful_threads(by_codebook[:, :_PROBE_FRAMES], make, threads).items():
            with torch_threads(count):
                data = encode_steps(by_codebook, stepper)
                _check_equal(by_codebook, decode_steps(data, stepper, K, T, verify=False)[0])
            runs[name, "encode", count] = partial(encode_steps, by_codebook, stepper)
            runs[name, "decode", count] = partial(decode_steps, data, stepper, K, T, verify=False)
    for name, model in exact.items():
        payload = encode_frames(model, codes).payload
        _check_equal(codes, decode_frames(model, payload, T)[0])
        runs[name, "encode", 1] = partial(encode_frames, model, codes)
        runs[name, "decode", 1] = partial(decode_frames, model, payload, T)
        for count in threads if streams else ():
            runs[name, TOGETHER[0], count] = partial(encode_many, model, [codes] * streams, threads=count)
            runs[name, TOGETHER[1], count] = partial(
                decode_many, model, [payload] * streams, [T] * streams, threads=count
            )
    rounds: dict[tuple[str, str, int], list[tuple[float, float]]] = {key: [] for key in runs}
    for _ in range(repeats + 1):
        for key, run in runs.items():
            with torch_threads(key[2]):
                processor, start = process_time(), now()
                run()
                taken, used = now() - start, process_time() - processor
            rounds[key].append((taken, min(1.0, used / max(taken, 1e-9))))
    rows = []
    for (name, direction, count), measured in rounds.items():
        seconds, shares = np.array(measured[1:]).T
        seconds = seconds / streams if direction in TOGETHER else seconds
        rows.append(
            {"coder": name, "direction": direction, "threads": count,
             **median_interval(seconds).columns("frame_ms", 1000 / len(codes)),
             "processor_share": np.median(shares), "seconds": seconds}
        )  # fmt: skip
    return pd.DataFrame(rows)


def speedup(times: pd.DataFrame, slow: str, fast: str, direction: str, fast_direction: str = "") -> Interval:
    """Return one coder's time over another's in `time_coders`, round by round: the median and its interval.

    The other's direction may be a second one, of `TOGETHER`.

    Each coder is taken at the number of threads at which its median is best. Rounds are few and follow one another, so
    that the interval speaks of this run.
    """
    best = []
    for name, way in ((slow, direction), (fast, fast_direction or direction)):
        found = times[(times["coder"] == name) & (times["direction"] == way)]
        best.append(found["seconds"].tolist()[int(np.argmin(found["frame_ms"]))])
    return median_interval(np.divide(*best))


def batch_throughput(
    model: ExactLM, clips: Sequence[np.ndarray], threads: int = 1, repeats: int = 6
) -> dict[str, float]:
    """Decode many streams side by side and say how many frames a second that makes, of all streams together.

    Clips are integers ``[T, K]``, one stream each. One round before the `repeats` is not counted.

    Returns:
        ``streams``, ``threads``, and ``frames_per_s`` with ``_low`` and ``_high`` (the median and its interval).

    Raises:
        CorruptInput: A decoder returned other codes than were encoded.
    """
    payloads = [coded.payload for coded in encode_many(model, clips)]
    lengths = [len(clip) for clip in clips]
    rates = []
    for _ in range(repeats + 1):
        start = perf_counter()
        results = decode_many(model, payloads, lengths, threads=threads)
        rates.append(sum(lengths) / (perf_counter() - start))
    for clip, result in zip(clips, results, strict=True):
        if isinstance(result, CorruptInput):
            raise result
        _check_equal(clip, result[0])
    return {"streams": len(clips), "threads": threads, **median_interval(rates[1:]).columns("frames_per_s")}


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _useful_threads(symbols: np.ndarray, make: Callable[[int], Stepper], threads: Sequence[int]) -> dict[int, Stepper]:
    """Return the steppers by numbers of threads that are worth timing in full, by the time of frames ``[K, T]``."""
    taken, steppers = {}, {count: make(count) for count in threads}
    for count, stepper in steppers.items():
        with torch_threads(count):
            encode_steps(symbols, stepper)
            start = perf_counter()
            encode_steps(symbols, stepper)
            taken[count] = perf_counter() - start
    return {count: steppers[count] for count in threads if taken[count] <= _TOO_SLOW * min(taken.values())}


def _check_equal(codes: np.ndarray, decoded: np.ndarray) -> None:
    if not np.array_equal(codes, decoded):
        raise CorruptInput("A decoder returned other codes than were encoded; its time means nothing.")

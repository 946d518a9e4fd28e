"""What ``./run_all.sh bench`` compares: two ways of the same work, in one process, in turns, and the bar to be met.

Only ratios are judged, as both sides of a pair share the machine and whatever else it does; a bar that is met by one
machine may be missed by another, which is why no test and no notebook depends on one.
"""

import contextlib
import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codecbook.codecs import encodec_package  # noqa: F401  lets encodec be imported without torchaudio
from codecbook.coding import arithmetic, counts, range_coder
from codecbook.coding.ecdc import upstream_lm
from codecbook.coding.ecdc.lm import PackageStepper
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.exact.stepper import product_kind
from codecbook.lm.models import build_lm
from codecbook.lm.training.options import TrainOptions
from codecbook.lm.training.passes import Passes
from codecbook.lm.training.train import parameter_groups
from codecbook.measure.coder_speed import DIRECTIONS, TOGETHER, same_size, speedup, time_coders, torch_threads
from codecbook.measure.statistics import Interval, median_interval
from codecbook.models.weights import seeded
from codecbook.probes.determinism.onnx_steps import OnnxStepper
from codecbook.tokens import tokens_from_frames
from codecbook.training.checkpoint import move_average
from codecbook.training.processes import Processes, joined_processes

PARTS = ("coders", "counts", "training")
K, V, FRAME_RATE_HZ = 8, 1024, 75.0
DIM, LAYERS, HEADS, HIDDEN = 256, 4, 4, 1024
_CLIPS = 20
_UPSTREAM, _COMPILED = "upstream's model stepping in torch", "floats of the same size, compiled (ONNX Runtime)"
_EXACT = "exact, same size"
_STREAMS = 8
_BARS = (
    ("encode", "encode", "encode, one segment,", 40.0),
    ("encode", TOGETHER[0], f"encode, {_STREAMS} segments at once,", 40.0),
    ("decode", TOGETHER[1], f"decode, {_STREAMS} segments at once,", 25.0),
    ("decode", "decode", "decode, one segment,", 12.0),
)
"""What upstream's coder does and the exact one, and how many times as fast that should be."""


@dataclass(frozen=True)
class Bar:
    """One comparison, and what it should come to.

    Attributes:
        part: One of `PARTS`.
        text: What is held against what.
        least: Ratio that the median should reach.
        ratio: Time of the baseline over the time of this project's way, pair by pair: the median and its interval.
    """

    part: str
    text: str
    least: float  # s/s
    ratio: Interval  # s/s

    @property
    def met(self) -> bool:
        """Whether the median reaches the bar."""
        return self.ratio.mean >= self.least

    def __str__(self) -> str:
        return (
            f"{'met' if self.met else 'missed':6s} {self.part}: {self.text}: {self.ratio} times as fast; "
            f"at least {self.least:g}"
        )


@dataclass(frozen=True)
class Size:
    """How much work a pair is.

    Attributes:
        frames: Frames that coders and counts are given.
        batch: Windows of a training step.
        window_frames: Frames of a window.
    """

    frames: int = 75
    batch: int = 8
    window_frames: int = 256


def bench(part: str, rounds: int, size: Size = Size(), clock: Callable[[], float] = time.perf_counter) -> Iterator[Bar]:
    """Measure a part, and yield each comparison as it is done.

    Args:
        part: One of `PARTS`: ``"coders"``, the exact coder against upstream's model of the same size and against floats
            of that size in ONNX Runtime, each at the threads that suit it best, with the product that it chose;
            ``"counts"``, CDFs and arithmetic coding against the package ``encodec``, on one thread; ``"training"``, a
            step against a plain loop over ``nn.TransformerEncoder``, on torch's threads.
        rounds: Pairs of each.
        size: Of the work.
        clock: Returns seconds; monotonic.
    """
    yield from {"coders": _coders, "counts": _counts, "training": _training}[part](rounds, size, clock)


def _coders(rounds: int, size: Size, clock: Callable[[], float]) -> Iterator[Bar]:
    codes = np.random.default_rng(0).integers(0, V, (size.frames, K))
    upstream = upstream_lm(K, V, FRAME_RATE_HZ)
    twin, exact = same_size(K, V, FRAME_RATE_HZ, codes)
    floats = {_UPSTREAM: lambda _: PackageStepper(upstream), _COMPILED: lambda threads: OnnxStepper(twin, threads)}
    threads = sorted({1, torch.get_num_threads()})
    times = time_coders(codes, floats, {_EXACT: exact}, rounds, threads, clock, streams=_STREAMS)
    kind = product_kind(exact)
    for way, own, name, least in _BARS:
        text = f"{name} in integers ({kind}), against {_UPSTREAM}"
        yield Bar("coders", text, least, speedup(times, _UPSTREAM, _EXACT, way, own))
    for way in DIRECTIONS:
        yield Bar("coders", f"{way} in integers, against {_COMPILED}", 1.0, speedup(times, _COMPILED, _EXACT, way))


def _counts(rounds: int, size: Size, clock: Callable[[], float]) -> Iterator[Bar]:
    T, rng = size.frames, np.random.default_rng(0)
    logits = rng.normal(0, 2, size=(T, V, K)).astype(np.float32)
    units = np.round(logits / np.log(2) * 256).astype(np.int32)
    symbols = rng.integers(0, V, size=(K, T))
    pdf = torch.softmax(torch.from_numpy(logits), dim=1)
    ways: dict[str, tuple[float, Callable[[], bytes]]] = {
        "upstream's format": (3.0, lambda: arithmetic.encode_upstream(symbols, counts.cdf_upstream(logits))),
        "exact counts and range coder": (6.0, lambda: range_coder.encode_range(symbols, counts.cdf_exact(units))),
    }
    with torch_threads(1):
        for name, (least, way) in ways.items():
            ratio = compare_speed(lambda: _package_encode(symbols, pdf), way, rounds, clock)
            yield Bar("counts", f"{name}, against the package encodec", least, ratio)


def _package_encode(symbols: np.ndarray, pdf: torch.Tensor) -> bytes:
    from encodec.quantization.ac import ArithmeticCoder, build_stable_quantized_cdf

    file = io.BytesIO()
    coder = ArithmeticCoder(file)
    for t in range(symbols.shape[1]):
        for k in range(K):
            row = build_stable_quantized_cdf(pdf[t, :, k], coder.total_range_bits, check=False)
            coder.push(int(symbols[k, t]), row)
    coder.flush()
    return file.getvalue()


def _training(rounds: int, size: Size, clock: Callable[[], float]) -> Iterator[Bar]:
    bars = {"none": ("independent heads", 0.95), "in_frame": ("heads conditioned on their frame, which do more", 0.75)}
    with training_steps(tuple(bars), K, V, size.batch, size.window_frames) as steps:
        for conditioning, (name, least) in bars.items():
            ratio = compare_speed(steps["plain"], steps[conditioning], rounds, clock)
            yield Bar("training", f"a step with {name}, against nn.TransformerEncoder", least, ratio)


def compare_speed(a: Callable[[], object], b: Callable[[], object], pairs: int, clock: Callable[[], float]) -> Interval:
    """Return the time of `a` over that of `b`, in turns (a b, b a, a b, ...): the median of the pairs, its interval.

    A machine's speed drifts with its temperature and its other work by more than many improvements are worth.
    Neighbours in time share that drift, and alternating who goes first cancels what is left of it. Both are called once
    before the first pair.
    """
    a()
    b()
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        turns = list(zip((a, b), seconds, strict=True))
        for function, taken in turns if pair % 2 == 0 else reversed(turns):
            start = clock()
            function()
            taken.append(clock() - start)
    return median_interval(np.divide(*seconds))


class PlainModel(nn.Module):
    """What one would write first: summed embeddings, `nn.TransformerEncoder`, one head per codebook."""

    def __init__(self, num_codebooks: int, codebook_size: int, num_frames: int) -> None:
        super().__init__()
        self.bos = codebook_size
        self.embeddings = nn.ModuleList(nn.Embedding(codebook_size + 1, DIM) for _ in range(num_codebooks))
        self.positions = nn.Embedding(num_frames, DIM)
        layer = nn.TransformerEncoderLayer(
            DIM, HEADS, HIDDEN, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.heads = nn.ModuleList(nn.Linear(DIM, codebook_size) for _ in range(num_codebooks))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(num_frames))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits ``[B, T, K, V]`` for codes int64 ``[B, T, K]``."""
        shifted = torch.cat((torch.full_like(codes[:, :1], self.bos), codes[:, :-1]), dim=1)
        x = sum(table(shifted[..., k]) for k, table in enumerate(self.embeddings))
        x = x + self.positions.weight[: codes.shape[1]]
        x = self.encoder(x, mask=self.get_buffer("mask"), is_causal=True)
        return torch.stack([head(x) for head in self.heads], dim=2)


@contextlib.contextmanager
def training_steps(
    conditionings: Sequence[str], num_codebooks: int, codebook_size: int, batch: int, num_frames: int, seed: int = 0
) -> Iterator[dict[str, Callable[[], None]]]:
    """Make optimizer steps to be called again and again, of a plain PyTorch loop and of models of this package.

    Both read the same windows and predict the same tokens, with the same number of layers, widths and heads,
    cross-entropy, AdamW and clipped gradients. Ours is `Passes` and the optimizer of `codecbook.lm.training`, with all
    that a run does at each step: order, checks, averaged weights.

    Args:
        conditionings: Of `RVQTransformer`: ``"none"``, ``"in_frame"``.
        num_codebooks: K.
        codebook_size: V.
        batch: Windows a step.
        num_frames: Frames of a window.
        seed: Of parameters and codes, which are random.

    Yields:
        Steps by name: ``"plain"``, and each of `conditionings`.
    """
    rng = np.random.default_rng(seed)
    # whole windows, as the plain loop knows no filling
    frames = [rng.integers(0, codebook_size, (4 * num_frames, num_codebooks)) for _ in range(_CLIPS)]
    corpus = Corpus.from_tokens(
        {f"clip {i}": tokens_from_frames(rows, codebook_size, 75.0) for i, rows in enumerate(frames)}
    )
    with joined_processes("cpu") as processes, seeded(seed):
        yield {
            "plain": _plain_step(corpus, batch, num_frames),
            **{name: _our_step(corpus, name, batch, num_frames, processes) for name in conditionings},
        }


def _plain_step(corpus: Corpus, batch: int, num_frames: int) -> Callable[[], None]:
    model = PlainModel(len(corpus.codebook_sizes), corpus.codebook_sizes[0], num_frames).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    windows = Windows(corpus, num_frames)
    order = np.random.default_rng(0).permutation(len(windows))
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        chosen = order[np.arange(number * batch, (number + 1) * batch) % len(order)]
        codes = torch.from_numpy(windows.batch(chosen))
        loss = F.cross_entropy(model(codes).flatten(0, 2), codes.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _our_step(
    corpus: Corpus, conditioning: str, batch: int, num_frames: int, processes: Processes
) -> Callable[[], None]:
    shape = {"dim": DIM, "layers": LAYERS, "heads": HEADS, "hidden": HIDDEN, "window_frames": num_frames}
    model = build_lm(
        "rvq_transformer", {"codebook_sizes": corpus.codebook_sizes, "conditioning": conditioning, **shape}
    )
    options = TrainOptions(context_frames=num_frames, stride_frames=num_frames, batch_size=batch)
    passes = Passes(model, Windows(corpus, num_frames), options, processes)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-4, fused=True)
    averages = [parameter.detach().clone() for parameter in model.parameters()]
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        passes.gradients(number, 0.0)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        move_average(averages, model.parameters(), number, options.ema_decay)
        optimizer.zero_grad(set_to_none=True)

    return step

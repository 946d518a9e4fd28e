"""Compare all evaluators of an exact language model, and its float twin with itself.

Equal logits make equal streams (`codecbook.coding.counts.cdf_exact` is integers alone), so logits are what is compared:
by SHA-256 over int32 little-endian values in the order frame, codebook, code.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from codecbook.coding.counts import cdf_upstream
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact import ExactLM, ExactStepper, ExactTorch, kernel_logits, reference_logits
from codecbook.lm.score import evaluating
from codecbook.lm.token_lm import TokenLM


@dataclass(frozen=True)
class EvaluatorCheck:
    """One way to evaluate a model, against the first one.

    Attributes:
        evaluator: Which.
        threads: Torch threads.
        logits: Logits compared.
        sha256: Of them, hex.
        differing: Logits that differ from the first evaluator's.
        seconds: Time that it took, compilation included.
    """

    evaluator: str
    threads: int
    logits: int
    sha256: str
    differing: int
    seconds: float  # s


@dataclass(frozen=True)
class FloatCheck:
    """One way to evaluate the float twin, against one pass over the whole clip on one thread.

    Attributes:
        evaluation: Which.
        threads: Torch threads.
        logits: Logits compared.
        differing_percent: Share of them that differ in any bit.
        cdf_rows: CDFs compared, one per token.
        differing_cdf_percent: Share of those that differ: each would stop a decoder from understanding the rest.
    """

    evaluation: str
    threads: int
    logits: int
    differing_percent: float
    cdf_rows: int
    differing_cdf_percent: float


def compare_evaluators(model: ExactLM, clips: Sequence[np.ndarray]) -> list[EvaluatorCheck]:
    """Evaluate a model in every way there is, on the same frames.

    Args:
        model: Exact model.
        clips: Integers ``[T, K]``, all of one length, as a batch needs it; some dozen frames are enough, for one of
            the evaluators is plain numpy.

    Returns:
        One row per evaluator; the first one is what the others are compared with.

    Raises:
        UnsupportedInput: No clips, or clips of several lengths.
        CorruptInput: A code outside its codebook.
    """
    if not clips or len({clip.shape for clip in clips}) > 1:
        raise UnsupportedInput(
            f"{len(clips)} clips of {len({clip.shape for clip in clips})} shapes; give some of one length."
        )
    batch = torch.from_numpy(np.stack(clips))
    exact = ExactTorch(model)
    ways: list[tuple[str, int, Callable[[], np.ndarray]]] = [
        ("numba, 16 frames at a time", 1, lambda: _each(kernel_logits, model, clips)),
        (
            "numba, one frame at a time",
            1,
            lambda: np.stack([kernel_logits(model, clip, rows=1) for clip in clips]),
        ),
        ("numba, code by code, clips side by side", 1, lambda: _stepped(model, np.stack(clips))),
        ("numpy, int64, by the text", 1, lambda: _each(reference_logits, model, clips)),
        (
            "torch, clip by clip",
            1,
            lambda: np.stack([exact.logits(batch[i : i + 1])[0].numpy() for i in range(len(batch))]),
        ),
        ("torch, all clips in a batch", 1, lambda: exact.logits(batch).numpy()),
        ("torch, all clips in a batch", 2, lambda: exact.logits(batch).numpy()),
        ("torch, 7 frames at a time", 2, lambda: exact.logits(batch, chunk_frames=7).numpy()),
        ("torch, code by code", 1, lambda: _torch_stepped(exact, batch)),
    ]
    checks: list[EvaluatorCheck] = []
    first: np.ndarray | None = None
    for name, threads, evaluate in ways:
        start = time.perf_counter()
        with torch_threads(threads):
            found = evaluate()
        seconds = time.perf_counter() - start
        first = found if first is None else first
        checks.append(
            EvaluatorCheck(
                name,
                threads,
                found.size,
                _digest(found),
                int(np.count_nonzero(found != first)),
                seconds,
            )
        )
    return checks


def compare_long(model: ExactLM, clips: Sequence[np.ndarray]) -> list[EvaluatorCheck]:
    """Compare the two evaluators that are fast enough for many tokens, clip by clip: numba and torch.

    Args:
        model: Exact model.
        clips: Integers ``[T, K]`` of any lengths, one at least.

    Returns:
        Two rows, as `compare_evaluators`.
    """
    exact = ExactTorch(model)
    digests = [hashlib.sha256(), hashlib.sha256()]
    seconds, count, differing = [0.0, 0.0], 0, 0
    threads = torch.get_num_threads()
    for clip in clips:
        start = time.perf_counter()
        by_kernel = kernel_logits(model, clip)
        middle = time.perf_counter()
        by_torch = exact.logits(torch.from_numpy(np.array(clip))[None])[0].numpy()
        seconds = [seconds[0] + middle - start, seconds[1] + time.perf_counter() - middle]
        for digest, logits in zip(digests, (by_kernel, by_torch), strict=True):
            digest.update(logits.astype("<i4").tobytes())
        count += by_kernel.size
        differing += int(np.count_nonzero(by_kernel != by_torch))
    names = (("numba", 1, 0), ("torch", threads, differing))
    return [
        EvaluatorCheck(name, used, count, digest.hexdigest(), wrong, taken)
        for (name, used, wrong), digest, taken in zip(names, digests, seconds, strict=True)
    ]


def compare_float_passes(model: TokenLM, clips: Sequence[np.ndarray]) -> list[FloatCheck]:
    """Evaluate a float model in several ways that are the same in exact arithmetic.

    Args:
        model: Float model with the trunk of `codecbook.lm.token_lm.TokenLM`, on the CPU.
        clips: Integers ``[T, K]``, all of one length.

    Returns:
        One row per way, each against one pass over the whole clip on one thread.

    Raises:
        UnsupportedInput: Clips of several lengths.
    """
    if not clips or len({clip.shape for clip in clips}) > 1:
        raise UnsupportedInput("A batch needs clips of one length, one at least.")
    batch = torch.from_numpy(np.stack(clips))
    ways: list[tuple[str, int, Callable[[], torch.Tensor]]] = [
        ("whole clips, 2 threads", 2, lambda: _one_by_one(model, batch)),
        (f"whole clips, {len(batch)} in a batch", 1, lambda: model(batch)),
        ("frame by frame, as a decoder does", 1, lambda: _float_stepped(model, batch)),
    ]
    checks = []
    with evaluating(model):
        with torch_threads(1):
            first = _one_by_one(model, batch).numpy()
            first_cdf = _cdfs(first)
        for name, threads, evaluate in ways:
            with torch_threads(threads):
                found = evaluate().numpy()
            with torch_threads(1):  # the softmax also rounds by threads, which is not what is asked here
                rows = (_cdfs(found) != first_cdf).any(axis=-1)
            checks.append(
                FloatCheck(
                    name,
                    threads,
                    found.size,
                    100 * float((found != first).mean()),
                    rows.size,
                    100 * float(rows.mean()),
                )
            )
    return checks


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _each(
    evaluate: Callable[[ExactLM, np.ndarray], np.ndarray], model: ExactLM, clips: Sequence[np.ndarray]
) -> np.ndarray:
    return np.stack([evaluate(model, clip) for clip in clips])


def _stepped(model: ExactLM, codes: np.ndarray) -> np.ndarray:
    B, T, K = codes.shape
    stepper = ExactStepper(model, streams=B)
    logits = np.empty((B, T, K, model.config.codebook_size), dtype=np.int32)
    for t in range(T):
        stepper.begin_frame()
        for k in range(K):
            logits[:, t, k] = stepper.logits(k)
            stepper.push(k, codes[:, t, k])
    return logits


def _torch_stepped(model: ExactTorch, codes: torch.Tensor) -> np.ndarray:
    _, T, K = codes.shape
    hidden, state = model.begin(len(codes))
    frames = []
    for t in range(T):
        frames.append(
            torch.stack([model.head(hidden[:, -1], codes[:, t, :k]) for k in range(K)], dim=1).numpy()
        )
        hidden, state = model.read(codes[:, t : t + 1], state)
    return np.stack(frames, axis=1)


def _one_by_one(model: TokenLM, codes: torch.Tensor) -> torch.Tensor:
    return torch.cat([model(codes[i : i + 1]) for i in range(len(codes))])


def _float_stepped(model: TokenLM, codes: torch.Tensor) -> torch.Tensor:
    hidden, state = model.begin(len(codes))
    frames = []
    for t in range(codes.shape[1]):
        heads = [model.head(hidden[:, -1], codes[:, t, :k]) for k in range(codes.shape[2])]
        frames.append(torch.stack(heads, dim=1))
        hidden, state = model.read(codes[:, t : t + 1], state)
    return torch.stack(frames, dim=1)


def _cdfs(logits: np.ndarray) -> np.ndarray:
    """Return upstream's CDFs ``[B T, K, V]`` of logits ``[B, T, K, V]``."""
    flat = logits.reshape(-1, *logits.shape[2:]).transpose(0, 2, 1)
    return cdf_upstream(np.ascontiguousarray(flat))


def _digest(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits, dtype="<i4").tobytes()).hexdigest()

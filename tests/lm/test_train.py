import contextlib
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.lm.costs import lm_cost
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.windows import Windows
from codecbook.lm.inspect import checkpoint_lines, tensor_table
from codecbook.lm.models import RVQTransformerConfig, build_lm
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import TrainOptions, TrainReport, cross_entropy_nats
from codecbook.lm.training.passes import Passes
from codecbook.lm.training.progress import read_checkpoint
from codecbook.lm.training.train import parameter_groups, train
from codecbook.tokens import tokens_from_frames
from codecbook.training.processes import alone
from codecbook.training.schedule import Budget

SHAPE = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16, "window_frames": 8, "head_dim": 8, "head_hidden": 8}
OPTIONS = TrainOptions(
    budget=Budget(steps=12), context_frames=16, stride_frames=8, batch_size=4, learning_rate=1e-2, evaluations=3,
    seed=3,
)  # fmt: skip

# what the subprocesses run: the same corpus and options as the tests, a step at a time
CHILD = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
from test_train import run_of_two_processes, run_until_killed
torch.set_num_threads(1)
{"killed": run_until_killed, "two": run_of_two_processes}[sys.argv[2]](sys.argv[3])
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are taken in the same order in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def corpus(num_clips: int = 10, num_codes: int = 6, num_codebooks: int = 2, length: int = 30) -> Corpus:
    """Return clips in which the first code counts up and the others copy it, with noise: much to learn."""
    rng = np.random.default_rng(0)
    clips = {}
    for clip in range(num_clips):
        first = (np.arange(length + 3 * (clip % 3)) + clip) % num_codes
        frames = np.repeat(first[:, None], num_codebooks, axis=1)
        noisy = rng.random(frames.shape) < 0.1
        clips[f"clip{clip:02d}"] = tokens_from_frames(
            np.where(noisy, rng.integers(0, num_codes, frames.shape), frames), num_codes, 75.0
        )
    return Corpus.from_tokens(clips)


def trained(
    folder: Path,
    options: TrainOptions = OPTIONS,
    arguments: Mapping[str, object] = SHAPE,
    sides: tuple[Corpus, Corpus] | None = None,
    **more: object,
) -> TrainReport:
    """Train the small model, silently unless asked for more, on the small corpus unless given both sides of another."""
    clips, held_out = sides or corpus().split(5)
    settings = {"device": "cpu", "say": lambda line: None, **more}
    return train(clips, held_out, folder, arguments=dict(arguments), options=options, **settings)  # type: ignore[arg-type]


def run_until_killed(folder: str) -> None:
    """Train, saving at every step and slowly enough to be killed in between."""
    options = dataclasses.replace(OPTIONS, checkpoint_every_s=0.0, report_every_s=0.0)
    trained(Path(folder), options, say=lambda line: time.sleep(0.1))


def run_of_two_processes(folder: str) -> None:
    """Train as one of two processes."""
    trained(Path(folder))


@contextlib.contextmanager
def started(task: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """Run a task in a process of its own, which ends with the block whatever happens."""
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), task, str(folder)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def assert_same_state(first: Path, second: Path) -> None:
    """Compare weights, averages, optimizer states and losses of two runs, bit for bit."""
    a, b = read_checkpoint(first), read_checkpoint(second)
    for part in ("model", "average"):
        assert a[part].keys() == b[part].keys()
        for name, tensor in a[part].items():
            assert torch.equal(tensor, b[part][name]), (part, name)
    for index, moments in a["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, b["optimizer"]["state"][index][name]), (index, name)
    without_time = [
        [{k: v for k, v in e.items() if k != "elapsed_s"} for e in state["run"]["evaluations"]] for state in (a, b)
    ]
    assert without_time[0] == without_time[1]


def test_training_learns_what_there_is(tmp_path: Path) -> None:
    report = trained(tmp_path, dataclasses.replace(OPTIONS, budget=Budget(steps=80), evaluations=4))
    assert report.best.bits_per_token < 0.75 * np.log2(6)
    assert [e.step for e in report.evaluations] == [20, 40, 60, 80]
    assert report.best.bits_per_token == min(e.bits_per_token for e in report.evaluations)
    assert report.steps == 80
    _, held_out = corpus().split(5)
    score = lm_cost("model", report.model, held_out)
    assert score.bits_per_token == pytest.approx(report.best.bits_per_token, abs=1e-12)
    assert score.clip_bits.sum(axis=0) / held_out.num_rows == pytest.approx(report.best.bits_per_codebook, abs=1e-12)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60, 80]


def test_a_flat_stream_trains_too(tmp_path: Path) -> None:
    clips, held_out = corpus(num_codebooks=1).split(5)
    shape = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16, "context": 16}
    report = train(clips, held_out, tmp_path, "tiny_gpt", shape, OPTIONS, "cpu", say=lambda line: None)
    assert report.evaluations[-1].bits_per_token < report.evaluations[0].bits_per_token


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    assert RVQTransformerConfig((6, 6), **SHAPE).dropout > 0, "random numbers are drawn in every step"
    trained(tmp_path / "unbroken")
    latest = tmp_path / "killed" / "latest.pt"
    with started("killed", tmp_path / "killed") as child:
        deadline = time.monotonic() + 120
        while not (latest.exists() and read_checkpoint(latest)["run"]["step"] >= 3):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    stopped_at = read_checkpoint(latest)["run"]["step"]
    assert 3 <= stopped_at < 12, "killed in the middle"
    lines: list[str] = []
    report = trained(tmp_path / "killed", say=lines.append)
    assert lines[0].startswith(f"going on from step {stopped_at} ")
    assert report.steps == 12
    assert_same_state(tmp_path / "unbroken", tmp_path / "killed")
    assert_same_state(tmp_path / "unbroken" / "best.pt", tmp_path / "killed" / "best.pt")
    assert len((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) == 3


def test_a_finished_run_is_not_trained_on_and_can_be_prolonged(tmp_path: Path) -> None:
    first = trained(tmp_path)
    again = trained(tmp_path)
    assert again.steps == 12
    assert again.best == first.best
    prolonged = trained(tmp_path, dataclasses.replace(OPTIONS, budget=Budget(steps=15)))
    assert prolonged.steps == 15
    assert prolonged.evaluations[-1].step == 15


def test_two_processes_repeat_the_run_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        started("two", tmp_path / "two", RANK="0", LOCAL_RANK="0", **shared) as first,
        started("two", tmp_path / "two", RANK="1", LOCAL_RANK="1", **shared) as second,
    ):
        # passes of the same windows: two of one process, or one each of two
        trained(tmp_path / "one", dataclasses.replace(OPTIONS, micro_batch_size=2))
        for child in (first, second):
            _, errors = child.communicate(timeout=120)
            assert child.returncode == 0, errors
    one, two = read_checkpoint(tmp_path / "one"), read_checkpoint(tmp_path / "two")
    for a, b in zip(one["run"]["evaluations"], two["run"]["evaluations"], strict=True):
        # sums in another order: float32 rounding, grown over 12 steps
        assert a["train_bits_per_token"] == pytest.approx(b["train_bits_per_token"], rel=1e-5)
        assert a["bits_per_token"] == pytest.approx(b["bits_per_token"], rel=1e-5)
        assert a["tokens_seen"] == b["tokens_seen"]


def test_micro_batches_do_not_change_the_gradient(tmp_path: Path) -> None:
    gradients = []
    for micro_batch_size in (None, 2, 1):
        torch.manual_seed(0)
        arguments = {**SHAPE, "codebook_sizes": [6, 6], "dropout": 0.0}
        model = build_lm("rvq_transformer", arguments).double()
        options = dataclasses.replace(OPTIONS, micro_batch_size=micro_batch_size, label_smoothing=0.1)
        passes = passes_of(model, options)
        nats, num_frames, _ = passes.gradients(0, own_s=1.0)
        gradients.append((nats, num_frames, [p.grad for p in model.parameters()]))
    for nats, num_frames, each in gradients[1:]:
        torch.testing.assert_close(nats, gradients[0][0], rtol=0, atol=1e-12)
        assert num_frames == gradients[0][1]
        for gradient, expected in zip(each, gradients[0][2], strict=True):
            # the weights of codebooks are float32, the rest float64
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def passes_of(model: TokenLM, options: TrainOptions, clips: Corpus | None = None) -> Passes:
    windows = Windows(clips or corpus(), options.context_frames, options.stride_frames)
    return Passes(model, windows, options, alone())


def test_filling_of_short_clips_costs_nothing() -> None:
    torch.manual_seed(0)
    arguments = {**SHAPE, "codebook_sizes": [6, 6], "dropout": 0.0}
    model = build_lm("rvq_transformer", arguments).double()
    clips = corpus(num_clips=4, length=11).subset(["clip00"])
    options = dataclasses.replace(OPTIONS, context_frames=11, batch_size=1)
    exact, _, _ = passes_of(model, options, clips).gradients(0, 0.0)
    longer = corpus(num_clips=4, length=11)
    filled = longer.subset(["clip00", "clip01"])
    options = dataclasses.replace(OPTIONS, context_frames=20, batch_size=2)
    both, num_frames, _ = passes_of(model, options, filled).gradients(0, 0.0)
    assert num_frames == 11 + 14
    frames = torch.from_numpy(longer.clip(1))[None]
    second = cross_entropy_nats(model(frames), frames)[1][0].sum(0)
    torch.testing.assert_close(both, (exact * 11 + second) / 25, rtol=0, atol=1e-12)


def test_only_matrices_decay() -> None:
    model = build_lm("rvq_transformer", {**SHAPE, "codebook_sizes": [6, 6]})
    decayed, free = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in free["params"]} == {n for n in names.values() if "norm" in n or "bias" in n}
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_a_spike_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, at_step=5, factor=100.0)
    lines: list[str] = []
    trained(tmp_path, say=lines.append)
    assert read_checkpoint(tmp_path)["run"]["skipped_steps"] == 1
    assert any("step 6: left out, its loss of" in line for line in lines)
    assert read_checkpoint(tmp_path)["run"]["recoveries"] == 0


def test_a_loss_that_is_not_finite_brings_the_best_weights_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, at_step=9, factor=float("nan"))
    lines: list[str] = []
    report = trained(tmp_path, say=lines.append)
    assert read_checkpoint(tmp_path)["run"]["recoveries"] == 1
    assert any("back to the weights of best.pt, on at 0.5 of the learning rate" in line for line in lines)
    assert report.steps == 12
    assert np.isfinite(report.evaluations[-1].bits_per_token)
    assert read_checkpoint(tmp_path)["run"]["rate_scale"] == 0.5


def test_a_run_that_stays_not_finite_ends_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, at_step=None, factor=float("nan"))
    with pytest.raises(CodecbookError, match=r"lower learning_rate"):
        trained(tmp_path)


def spoil(monkeypatch: pytest.MonkeyPatch, at_step: int | None, factor: float) -> None:
    """Multiply the loss of one step, or of all."""
    gradients = Passes.gradients

    def spoiled(self: Passes, step: int, own_s: float) -> tuple:
        nats, num_frames, elapsed_s = gradients(self, step, own_s)
        return nats * (factor if at_step in (None, step) else 1.0), num_frames, elapsed_s

    monkeypatch.setattr(Passes, "gradients", spoiled)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_names_settings(error: Exception) -> None:
    model = build_lm("rvq_transformer", {**SHAPE, "codebook_sizes": [6, 6]})

    def fail(*_arguments: object) -> None:
        raise error

    passes = passes_of(model, OPTIONS)
    passes._one_pass = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(CodecbookError, match=r"4 x 16 frames; lower micro_batch_size, .*bfloat16") as raised:
        passes.gradients(0, 0.0)
    assert raised.value.__cause__ is error


def test_other_errors_pass() -> None:
    passes = passes_of(build_lm("rvq_transformer", {**SHAPE, "codebook_sizes": [5, 5]}), OPTIONS)
    with pytest.raises(CorruptInput, match="outside"):
        passes.gradients(0, 0.0)


def test_a_time_limit_ends_a_run(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, budget=Budget(minutes=0.02), evaluations=2)
    report = trained(tmp_path, options)
    assert report.elapsed_s >= 1.2
    assert report.evaluations[-1].progress == 1.0


def test_trackers_see_every_evaluation(tmp_path: Path) -> None:
    tracked: list[tuple[int, Mapping[str, float]]] = []
    report = trained(
        tmp_path,
        dataclasses.replace(OPTIONS, archive_every=2),
        trackers=[lambda step, figures: tracked.append((step, figures))],
    )
    assert [step for step, _ in tracked] == [4, 8, 12]
    assert tracked[-1][1]["bits_per_token"] == report.evaluations[-1].bits_per_token
    assert [path.name for path in tmp_path.glob("step_*.pt")] == ["step_00000008.pt"]


def test_random_numbers_of_the_caller_go_on(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    trained(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_another_model_or_vocabulary_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, dataclasses.replace(OPTIONS, budget=Budget(steps=1), evaluations=1))
    with pytest.raises(UnsupportedInput, match="dim: 16 there, 32 here"):
        trained(tmp_path, arguments={**SHAPE, "dim": 32})
    with pytest.raises(UnsupportedInput, match=r"learning_rate: 0.01 there, 0.1 here"):
        trained(tmp_path, dataclasses.replace(OPTIONS, learning_rate=0.1))
    clips, held_out = corpus(num_codes=7).split(5)
    with pytest.raises(UnsupportedInput, match="2 x 6 codes, the model 2 x 7 codes"):
        train(clips, held_out, tmp_path, arguments=dict(SHAPE), options=OPTIONS, device="cpu")
    flat, flat_held_out = corpus(num_codebooks=1).split(5)
    with pytest.raises(UnsupportedInput, match="is of 'rvq_transformer'"):
        train(flat, flat_held_out, tmp_path, "tiny_gpt", {"dim": 16, "heads": 2}, OPTIONS, "cpu")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, dataclasses.replace(OPTIONS, budget=Budget(steps=1), evaluations=1))
    latest = tmp_path / "latest.pt"
    whole = latest.read_bytes()
    latest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptInput, match="no complete checkpoint"):
        trained(tmp_path)
    torch.save({"format": 1}, latest)
    with pytest.raises(CorruptInput, match="missing"):
        trained(tmp_path)
    latest.unlink()
    with pytest.raises(UnsupportedInput, match=r"holds best\.pt and no latest\.pt"):
        trained(tmp_path)


def test_corpora_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    clips, _ = corpus().split(5)
    with pytest.raises(UnsupportedInput, match="fewer than context_frames=5000"):
        trained(tmp_path, dataclasses.replace(OPTIONS, context_frames=5000))
    with pytest.raises(UnsupportedInput, match="have 3 x 6 codes, the model 2 x 6 codes"):
        train(clips, corpus(num_codebooks=3), tmp_path, arguments=dict(SHAPE), options=OPTIONS, device="cpu")
    with pytest.raises(UnsupportedInput, match="no multiple of"):
        trained(tmp_path, dataclasses.replace(OPTIONS, micro_batch_size=3))
    with pytest.raises(UnsupportedInput, match="cannot be used here"):
        trained(tmp_path, device="mps" if torch.cuda.is_available() else "cuda")


@pytest.mark.parametrize(
    "setting",
    [
        {"context_frames": 0}, {"batch_size": 0}, {"precision": "float16"}, {"label_smoothing": 1.0},
        {"gradient_clip": 0.0}, {"schedule": "linear"}, {"codebook_weights": "deep"}, {"weight_decay": -1.0},
        {"micro_batch_size": 0}, {"learning_rate": 0.0},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(setting: dict) -> None:
    with pytest.raises(UnsupportedInput):
        TrainOptions(**setting)


def test_inspection_tells_of_losses_drift_and_ill_tensors(tmp_path: Path) -> None:
    report = trained(tmp_path)
    lines = checkpoint_lines(tmp_path)
    assert lines[1].startswith("step 12, ")
    assert 0 < float(lines[2].removeprefix("the averaged weights are ").split()[0]) < 100
    assert [line[:4] for line in lines[3:5]] == ["best", "last"]
    assert f"step {report.best.step}, {report.best.bits_per_token:.4f} bits/token held out" in lines[3]
    assert f"step 12, {report.evaluations[-1].bits_per_token:.4f} bits/token held out" in lines[4]
    assert not any(line.endswith(("spikes", "FINITE")) for line in lines)
    state = read_checkpoint(tmp_path)
    state["model"]["embedding.weight"][0, 0] = 1e4
    state["model"]["norm.weight"][:2] = float("nan")
    ill = tensor_table(state, ["norm.weight", "embedding.weight", "head_weight"]).set_index("parameter")
    assert ill["not_finite"].tolist() == [2, 0, 0]
    assert ill.loc["embedding.weight", "largest"] == 1e4
    torch.save(state, tmp_path / "ill.pt")
    marked = {line.split()[0]: line for line in checkpoint_lines(tmp_path / "ill.pt")}
    assert marked["norm.weight"].endswith("2 NOT FINITE")


def test_a_run_records_its_corpus(tmp_path: Path) -> None:
    clips, held_out = corpus().split(5)
    trained(tmp_path)
    with (tmp_path / "corpus.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["clip", "sha256", "side"]
    assert {(name, side) for name, _, side in rows[1:]} == {
        *((name, "train") for name in clips.clips), *((name, "held_out") for name in held_out.clips),
    }  # fmt: skip
    assert [row[1] for row in rows[1:]] == [*clips.identities, *held_out.identities]
    assert read_checkpoint(tmp_path)["corpus"] == [tuple(row) for row in rows[1:]]


def test_a_changed_corpus_is_named_and_refused_or_taken_knowingly(tmp_path: Path) -> None:
    whole = corpus()
    clips, held_out = whole.split(5)
    first = clips.clips[0]
    fewer = clips.subset(clips.clips[1:])
    trained(tmp_path, sides=(fewer, held_out))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    more = dataclasses.replace(OPTIONS, budget=Budget(steps=16))
    with pytest.raises(UnsupportedInput, match=f"another corpus \\(added: {first}\\).*changed_corpus=True"):
        trained(tmp_path, more, sides=(clips, held_out))
    last = clips.clips[-1]
    rest = clips.subset(clips.clips[:-1])
    with pytest.raises(UnsupportedInput, match=f"\\(added: {first}; removed: {last}\\)"):
        trained(tmp_path, more, sides=(rest, held_out))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    said: list[str] = []
    trained(tmp_path, more, sides=(rest, held_out), changed_corpus=True, say=said.append)
    assert f"added: {first}; removed: {last}" in said[0]
    assert f"{last},{clips.identities[-1]},trained_before" in (tmp_path / "corpus.csv").read_text()
    # the same once more is no change
    assert trained(tmp_path, more, sides=(rest, held_out)).steps == 16


def test_what_a_run_was_trained_on_is_never_held_out_from_it(tmp_path: Path) -> None:
    clips, held_out = corpus().split(5)
    trained(tmp_path, sides=(clips, held_out))
    moved = corpus().subset([*held_out.clips, clips.clips[2]])
    rest = clips.subset([name for name in clips.clips if name != clips.clips[2]])
    with pytest.raises(UnsupportedInput, match=f"now held out \\({clips.clips[2]}\\)"):
        trained(tmp_path, sides=(rest, moved), changed_corpus=True)
    # not even by way of leaving it out for a while
    more = dataclasses.replace(OPTIONS, budget=Budget(steps=14))
    trained(tmp_path, more, sides=(rest, held_out), changed_corpus=True)
    with pytest.raises(UnsupportedInput, match="now held out"):
        trained(tmp_path, more, sides=(rest, moved), changed_corpus=True)


def test_evaluations_on_other_clips_do_not_count_as_best(tmp_path: Path) -> None:
    clips, held_out = corpus().split(2)
    few = held_out.subset(held_out.clips[:1])
    report = trained(tmp_path, sides=(clips, held_out))
    shrunk = trained(tmp_path, sides=(clips, few), changed_corpus=True)
    assert shrunk.steps == report.steps
    assert shrunk.evaluations[:-1] == report.evaluations
    assert shrunk.best == shrunk.evaluations[-1]
    assert shrunk.best.bits_per_token == pytest.approx(lm_cost("model", shrunk.model, few).bits_per_token, abs=1e-12)
    best = next(line for line in checkpoint_lines(tmp_path) if line.startswith("best"))
    assert f" {shrunk.best.bits_per_token:.4f} bits/token held out" in best


def test_a_checkpoint_from_before_there_were_records_goes_on(tmp_path: Path) -> None:
    trained(tmp_path)
    state = read_checkpoint(tmp_path)
    del state["corpus"], state["run"]["comparable_from"]
    torch.save(state, tmp_path / "latest.pt")
    trained(tmp_path, dataclasses.replace(OPTIONS, budget=Budget(steps=14)))
    assert len(read_checkpoint(tmp_path)["corpus"]) == 10
    for damaged in (5, [5], [("a", "b", "nowhere")]):
        torch.save({**state, "corpus": damaged}, tmp_path / "latest.pt")
        with pytest.raises(CorruptInput, match="damaged record"):
            trained(tmp_path)

"""Files from outside, damaged or made to do harm: one error in one line, or what they still say, and nothing else.

Mutations are seeded. What would take long or much memory would show as a test that does not end.
"""

import contextlib
import copy
import hashlib
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codecbook import paths
from codecbook.codecs.adapters.units import Units, load_units_model
from codecbook.codecs.build import random_seeded
from codecbook.codecs.loading import load_model, save_model
from codecbook.codecs.training.units import save_units
from codecbook.errors import CodecbookError
from codecbook.files import sha256_of
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.model_files import load_lm, save_lm
from codecbook.lm.models import build_lm
from codecbook.probes.determinism.bundle import read_bundle, read_result, write_bundle, write_result
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.compare import CdfDifference, CellResult, CoderResult, LogitDifference

SEANET = {"hidden_dim": 8, "num_filters": 2}
ENCODEC = {**SEANET, "num_codebooks": 1, "codebook_size": 16, "bandwidth_kbps": 0.3}
SNAC = {"codebook_size": 16, "codebook_dim": 4, "encoder_dim": 2, "decoder_dim": 16}
HUGE = 10**20
EVIL: tuple[Any, ...] = (
    None, [], {}, "", "x", True, -1, 0, 1, 2.5, 1e-300, 1e300, 100_000, 10**9, 2**31, 2**63, HUGE, 10**400,
    float("inf"), float("-inf"), float("nan"), [1] * 50, [None], [[]], [HUGE], "\ud800",
)  # fmt: skip


def make_codec(folder: Path, architecture: str, arguments: dict[str, Any]) -> None:
    save_model(folder, random_seeded(architecture, arguments, 0), architecture, arguments, {"data": "none"})


def make_lm(folder: Path, architecture: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    save_lm(folder, build_lm(architecture, arguments), {"order": "parallel"})


def make_exact(folder: Path, architecture: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    rows = np.random.default_rng(0).integers(0, 5, (12, 2))
    save_exact(folder, export_exact(build_lm(architecture, arguments).eval(), [rows]))


def make_units(folder: Path, architecture: str, arguments: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    save_units(folder, Units(*(rng.random(shape, dtype=np.float32) for shape in ((4, 39), 39, 39))), {})


TRANSFORMER = {
    "codebook_sizes": [5, 5], "dim": 8, "layers": 1, "heads": 2, "hidden": 8, "window_frames": 4, "head_dim": 4,
    "head_hidden": 4,
}  # fmt: skip
GPT = {"codebook_sizes": [5], "dim": 8, "layers": 1, "heads": 2, "hidden": 8, "context": 6}
MODELS: dict[str, tuple[Callable[..., None], Callable[[Path], Any], str, dict[str, Any]]] = {
    "encodec": (make_codec, load_model, "encodec", ENCODEC),
    "fsq": (make_codec, load_model, "fsq", {**SEANET, "levels": [4, 4]}),
    "snac": (make_codec, load_model, "snac", SNAC),
    "rvq_transformer": (make_lm, load_lm, "rvq_transformer", TRANSFORMER),
    "tiny_gpt": (make_lm, load_lm, "tiny_gpt", GPT),
    "exact": (make_exact, load_exact, "rvq_transformer", TRANSFORMER),
    "units": (make_units, load_units_model, "", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def good_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the folder of a model of a kind, which is not to be altered."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            make, _, architecture, arguments = MODELS[kind]
            made[kind] = tmp_path_factory.mktemp(kind)
            make(made[kind], architecture, arguments)
        return made[kind]

    return folder


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value of a JSON text."""
    if way:
        yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*way, key))


def mutated_json(content: Any, rng: random.Random) -> str:
    """Return a JSON text with one or two values replaced, removed or nested."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 2)):
        *way, last = rng.choice(list(places(content)))
        parent = content
        for key in way:
            parent = parent[key]
        evil = rng.choice(EVIL)
        if rng.random() < 0.1 and isinstance(parent, dict):
            del parent[last]
        else:
            parent[last] = evil
        if not content or not list(places(content)):
            break
    text = json.dumps(content)
    return text.replace("Infinity", "1e999") if rng.random() < 0.5 else text


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes cut, prolonged or altered, more often near the front, where headers are."""
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        return data + rng.randbytes(rng.randint(1, 20))
    altered = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(min(len(data), 200) if kind == 2 else len(data))
        altered[place] = rng.choice((0, 255, 0x22, 0x2C, 0x39, 0x5B, 0x7B, rng.randrange(256)))
    return bytes(altered)


def must_be_told_in_one_line(read: Callable[[], Any]) -> bool:
    """Return whether something was read; any other exception than ours passes, and fails the test."""
    message = None
    try:
        read()
    except CodecbookError as error:
        message = str(error)
    assert message is None or (message and "\n" not in message), message
    return message is None


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with_an_altered_configuration(kind: str, good_models, tmp_path: Path) -> None:
    load = MODELS[kind][1]
    folder = Path(shutil.copytree(good_models(kind), tmp_path / "model"))
    config = folder / "config.json"
    good = json.loads(config.read_text())
    rng = random.Random(kind)
    read = 0
    count = 12 if MODELS[kind][0] is make_codec else 40  # codecs take long to build
    for _ in range(count):
        config.write_text(mutated_json(good, rng), encoding="utf-8", errors="surrogatepass")
        read += must_be_told_in_one_line(lambda: load(folder))
    assert read < count / 2  # of some, what was altered does not matter
    config.write_text(json.dumps(good))
    load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with_altered_bytes(kind: str, name: str, good_models, tmp_path: Path) -> None:
    load = MODELS[kind][1]
    folder = Path(shutil.copytree(good_models(kind), tmp_path / "model"))
    path = folder / name
    good = path.read_bytes()
    rng = random.Random(kind + name)
    for _ in range(10 if MODELS[kind][0] is make_codec else 40):
        path.write_bytes(mutated_bytes(good, rng))
        must_be_told_in_one_line(lambda: load(folder))


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "units"])
def test_a_model_that_claims_to_be_huge(kind: str, good_models, tmp_path: Path) -> None:
    load = MODELS[kind][1]
    folder = Path(shutil.copytree(good_models(kind), tmp_path / "model"))
    config = folder / "config.json"
    good = json.loads(config.read_text())
    for name, value in good["arguments"].items():
        if isinstance(value, bool | str | float) or name == "sample_rate_hz":
            continue
        for size in (10**8, 2**40, 2**62, HUGE):
            claimed = [size, *value[1:]] if isinstance(value, list) else size
            config.write_text(json.dumps({**good, "arguments": {**good["arguments"], name: claimed}}))
            read = must_be_told_in_one_line(lambda: load(folder))
            assert not read, (name, size)
    lists = [name for name, value in good["arguments"].items() if isinstance(value, list)]
    for name in lists:
        config.write_text(json.dumps({**good, "arguments": {**good["arguments"], name: [4] * 200_000}}))
        assert not must_be_told_in_one_line(lambda: load(folder))


def given(pattern: str) -> list[Path]:
    extra = paths.extra_dir()
    found = sorted((extra / "cases" / "containers").glob(pattern)) if extra else []
    if not found:
        pytest.skip("needs CODECBOOK_EXTRA with cases/containers")
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_configurations_that_did_harm(kind: str, good_models, tmp_path: Path) -> None:
    load = MODELS[kind][1]
    folder = Path(shutil.copytree(good_models(kind), tmp_path / "model"))
    for path in [*given("adv_config_*.json"), *given("*_config_*.bin")]:
        (folder / "config.json").write_bytes(path.read_bytes())
        assert not must_be_told_in_one_line(lambda: load(folder)), path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a bundle of two files and one answer."""
    root = tmp_path_factory.mktemp("case")
    np.save(root / "codes.npy", np.zeros((1, 2, 2), dtype=np.int64))
    case = Case(root, "none", 0, ("exact",), {"lm": "ab"}, {"codes.npy": sha256_of(root / "codes.npy")})
    (root / "case.json").write_text(json.dumps(case.description()))
    case.baseline.mkdir()
    (case.baseline / "cdf.npy").write_bytes(bytes(50))
    return write_bundle(case, root / "bundle.zip").read_bytes()


def test_a_determinism_bundle_with_altered_bytes(bundle: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    rng = random.Random("bundle")
    read = 0
    for _ in range(300):
        altered = mutated_bytes(bundle, rng)
        if rng.random() < 0.5:  # where the list of files is
            altered = bytes(reversed(mutated_bytes(bundle[::-1], rng)))
        path.write_bytes(altered)
        read += must_be_told_in_one_line(lambda: read_bundle(path, tmp_path / "there"))
    assert read < 150  # dates and such do not matter
    path.write_bytes(bundle)
    assert read_bundle(path, tmp_path / "there").codec == "none"


@pytest.mark.parametrize("name", ["bundle.json", "case.json"])
def test_a_determinism_bundle_with_an_altered_description(name: str, bundle: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        contents = {each: archive.read(each) for each in archive.namelist()}
    good = json.loads(contents[name])
    rng = random.Random(name)
    for _ in range(100):
        text = mutated_json(good, rng).encode("utf-8", "surrogatepass")
        altered = contents | {name: text}
        if name == "case.json":  # with the right hash, so that it is read
            manifest = json.loads(contents["bundle.json"])
            manifest["files"][name] = hashlib.sha256(text).hexdigest()
            altered["bundle.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in altered.items():
                archive.writestr(each, data)
        must_be_told_in_one_line(lambda: read_bundle(path, tmp_path / "there"))


def test_results_of_other_machines(tmp_path: Path) -> None:
    case = Case(tmp_path, "none", 0, ("exact",), {"lm": "ab"}, {})
    part = CoderResult(
        "ran", bits=5.0, segments=1, logits=LogitDifference(4, 1, 0.5, 2.0, {0.5: 1}),
        cdf=CdfDifference(4, 1, 0, (0, 0, 0, 1), [0], [1], [0]), first_wrong_frames={0: 1},
    )  # fmt: skip
    found = CellResult(BASELINE, "ran", coders={"exact": part}, seconds=1.0)
    path = write_result(case, [found], tmp_path / "result.json")
    good = path.read_bytes()
    assert read_result(path, case)[1] == [found]
    content = {key: value for key, value in json.loads(good).items() if key != "sha256"}
    rng = random.Random("result")
    for _ in range(100):
        path.write_bytes(mutated_bytes(good, rng))
        must_be_told_in_one_line(lambda: read_result(path))
    for _ in range(200):
        text = mutated_json(content, rng)
        with contextlib.suppress(ValueError):  # numbers too long for JSON are tried as they are
            parsed = json.loads(text)  # others signed, so that more than the signature is tried
            digest = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
            text = json.dumps({**parsed, "sha256": hashlib.sha256(digest.encode()).hexdigest()})
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        must_be_told_in_one_line(lambda: read_result(path, case if rng.random() < 0.5 else None))

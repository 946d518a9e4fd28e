"""Published weights come from the hub once, whole and right, or it is said in one line why not, and what to do."""

import functools
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from codecbook.codecs import load_codec
from codecbook.codecs.__main__ import main
from codecbook.errors import CorruptInput, MissingWeights
from codecbook.models.hub import fetch_checkpoint

FROM_THE_HUB = ("snac_24khz", "dac_44khz", "mimi", "neucodec")
FETCH_BOTH = """
from codecbook.models.hub import fetch_checkpoint, fetch_repository
fetch_checkpoint("x", "https://dl.fbaipublicfiles.com/encodec/v0/x-ba7816bf.th", "")
fetch_repository("mimi", "kyutai/mimi", ["config.json", "model.safetensors"], "")
"""
CHUNK = 1 << 16  # of what the client writes at once; 10 MB by default


def write_snac(folder, model, settings):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def publish_small(hub, small_folder, small_snac, tmp_path):
    """Serve a small model of a codec in its publisher's layout."""

    def publish(name):
        folder = tmp_path / "published" / name
        if name == "snac_24khz":
            return hub.publish(name, write_snac(folder, *small_snac()))
        return hub.publish(name, Path(small_folder(name)))

    return publish


@pytest.fixture
def checkpoint(hub, tmp_path):
    """Serve a file as EnCodec's are, and return it with the call that fetches it."""
    content = random.Random(0).randbytes(1 << 20)
    file = tmp_path / f"encodec-{hashlib.sha256(content).hexdigest()[:8]}.th"
    file.write_bytes(content)
    hub.files[f"/encodec/v0/{file.name}"] = file
    address = f"https://dl.fbaipublicfiles.com/encodec/v0/{file.name}"
    return file, lambda: fetch_checkpoint("encodec", address, "the file")


@pytest.mark.parametrize("name", FROM_THE_HUB)
def test_a_model_is_fetched_once_and_then_needs_no_network(hub, publish_small, monkeypatch, noise_clip, name):
    repository = publish_small(name)
    codec = load_codec(name, weights="pretrained")
    assert (codec.weights.kind, codec.weights.source) == ("pretrained", repository)
    assert any(request.startswith("GET cdn-lfs.hf.co/repos/") for request in hub.asked)
    asked = len(hub.asked)
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        again = load_codec(name, weights="pretrained")
        assert again.weights == codec.weights
    assert len(hub.asked) == asked
    clip = noise_clip(codec, 0.5)
    assert again.encode(clip).same_codes(codec.encode(clip))


def test_a_checkpoint_is_fetched_once_and_then_needs_no_network(hub, checkpoint, monkeypatch, tmp_path):
    file, fetch = checkpoint
    assert fetch() == tmp_path / "torch/hub/checkpoints" / file.name
    asked = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch().read_bytes() == file.read_bytes()
    assert len(hub.asked) == asked


def test_a_broken_connection_goes_on_where_it_broke(hub, publish_small, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)
    publish_small("mimi")
    hub.drops = 2
    load_codec("mimi", weights="pretrained")
    (file,) = hub.files.values()
    assert hub.sent_bytes <= file.stat().st_size + 2 * CHUNK, "but for a piece at each break, no byte comes twice"


def test_the_next_call_goes_on_where_the_last_one_ended(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)
    file, fetch = checkpoint
    hub.drops, hub.after_drop = 1, 404
    with pytest.raises(MissingWeights, match=r"weights of encodec .*404"):
        fetch()
    assert fetch().read_bytes() == file.read_bytes()
    assert hub.sent_bytes <= file.stat().st_size + CHUNK
    assert re.search(r"bytes=\d{6}-$", hub.asked[-1])


def test_what_is_whole_but_was_not_put_in_place_is_not_fetched_again(hub, checkpoint, tmp_path):
    file, fetch = checkpoint
    partial = tmp_path / f"torch/hub/checkpoints/{file.name}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(file.read_bytes())
    assert fetch().read_bytes() == file.read_bytes()
    assert hub.sent_bytes == 0


@pytest.mark.parametrize("what", ["repository", "checkpoint"])
def test_a_file_with_a_wrong_hash_is_refused_and_removed(hub, publish_small, checkpoint, tmp_path, what):
    file, fetch = checkpoint
    if what == "repository":
        publish_small("snac_24khz")
        (file,) = (file for file in hub.files.values() if file.suffix == ".bin")
        fetch = functools.partial(load_codec, "snac_24khz", weights="pretrained")
    size = file.stat().st_size

    def cached():
        found = [path for cache in ("hf", "torch") for path in (tmp_path / cache).rglob("*") if path.is_file()]
        return [path for path in found if path.stat().st_size == size and not path.is_symlink()]

    hub.damaged = True
    with pytest.raises(CorruptInput, match=r"had the SHA-256 .* was expected.*was removed"):
        fetch()
    assert not cached()
    hub.damaged = False
    fetch()
    (kept,) = cached()
    kept.write_bytes(file.read_bytes()[: size // 2])  # damaged where it lies
    with pytest.raises(CorruptInput, match="was removed; the next call fetches it anew"):
        fetch()
    fetch()
    assert cached() == [kept]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (
            401,
            "GatedRepo",
            r"its authors ask for consent\). Agree to their terms on https://huggingface.co/kyutai/mimi",
        ),
        (403, "GatedRepo", "its authors ask for consent"),
        (401, "RepoNotFound", "no such repository, or a private one.*`hf auth login`"),
        (404, "RepoNotFound", "no such repository, or a private one"),
    ],
)
def test_a_refusal_is_explained_in_one_line(hub, publish_small, status, code, told, capfd):
    hub.refused[publish_small("mimi")] = (status, code)
    with pytest.raises(MissingWeights, match=told) as caught:
        load_codec("mimi", weights="pretrained")
    assert "\n" not in str(caught.value)
    assert "or pass weights= a local path: a folder with config.json and model.safetensors" in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["snac_24khz", "encodec_24khz"])
def test_a_proxy_that_refuses_is_named(hub, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://elsewhere.example")
    monkeypatch.setattr("encodec.model.ROOT_URL", "https://elsewhere.example/")
    with pytest.raises(MissingWeights, match=r"502.*Correct HTTPS_PROXY or HTTP_PROXY"):
        load_codec(name, weights="pretrained")


def test_a_cache_that_cannot_be_made_is_named(checkpoint, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(MissingWeights, match=re.escape(str(tmp_path / "file"))):
        checkpoint[1]()


def test_the_command_fetches_and_says_what(hub, publish_small, capsys):
    publish_small("mimi")
    assert main(["fetch", "mimi"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mimi: about 385 MB, unless it is here already",
        "mimi: pretrained: kyutai/mimi",
    ]


@pytest.mark.parametrize("places", [("XDG_CACHE_HOME",), ("HF_HUB_CACHE", "TORCH_HOME"), ("HF_HOME", "TORCH_HOME")])
def test_caches_lie_where_the_environment_says(served, small_folder, tmp_path, places):
    """Of another process, as the client reads the environment when it is imported."""
    served.publish("mimi", Path(small_folder("mimi")))
    served.files["/encodec/v0/x-ba7816bf.th"] = tmp_path / "abc"
    (tmp_path / "abc").write_bytes(b"abc")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TORCH_", "XDG_"))}
    environment |= {k: v for k, v in served.variables(tmp_path).items() if not k.endswith("_HOME")}
    environment |= {"HOME": str(tmp_path / "home"), **{name: str(tmp_path / name) for name in places}}
    command = [sys.executable, "-c", FETCH_BOTH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    hub_folder = {"XDG_CACHE_HOME": "huggingface/hub", "HF_HUB_CACHE": "", "HF_HOME": "hub"}[places[0]]
    torch_folder = "torch/hub" if places[0] == "XDG_CACHE_HOME" else "hub"
    assert (tmp_path / places[0] / hub_folder / "models--kyutai--mimi/blobs").is_dir()
    assert (tmp_path / places[-1] / torch_folder / "checkpoints/x-ba7816bf.th").is_file()
    assert not (tmp_path / "home").exists()

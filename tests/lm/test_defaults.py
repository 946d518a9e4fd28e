"""Recipes and folders of the bundled language models, and the script that makes them."""

import json
import sys

import numpy as np
import pytest
import torch

from codecbook.codecs.corpus.__main__ import PLANS
from codecbook.codecs.corpus.index import ClipRow, CorpusEntry, write_index
from codecbook.errors import MissingWeights
from codecbook.files import sha256_of
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.files import load_exact
from codecbook.lm.model_files import EXACT_NAME, default_folder, load_default, load_lm
from codecbook.lm.models import build_lm
from codecbook.models.weights import num_parameters
from codecbook.paths import data_dir, repository_dir
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.parquet import write_tokens

COLUMNS = {
    "encodec_24khz": (1024,) * 8, "encodec_48khz": (1024,) * 8, "snac_24khz": (1024,) * 7, "fsq_50hz": (4096,),
    "units_25hz": (512,),
}  # fmt: skip


@pytest.fixture(scope="module")
def script():
    """Import the script as Python does when it is run, and forget it afterwards."""
    folder = str(repository_dir() / "data" / "models")
    sys.path.insert(0, folder)
    import make_language_models  # pyright: ignore[reportMissingImports]

    yield make_language_models
    sys.path.remove(folder)
    sys.modules.pop("make_language_models", None)


def test_every_corpus_has_a_recipe_that_can_be_built_and_is_small(script):
    assert list(script.RECIPES) == list(PLANS) == list(COLUMNS)
    for codec, recipe in script.RECIPES.items():
        model = build_lm("rvq_transformer", {"codebook_sizes": COLUMNS[codec], **recipe.arguments})
        assert 2 * num_parameters(model) < 4.6e6, codec  # bytes of float16
        assert 64 <= recipe.arguments["window_frames"] <= 128


def test_a_codec_without_a_recipe_is_refused(script, capsys):
    threads = torch.get_num_threads()
    assert script.main(["mimi", "--threads", str(threads)]) == 2
    assert "There is no recipe for a language model of 'mimi'" in capsys.readouterr().err


def test_a_missing_default_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    with pytest.raises(MissingWeights, match="make_language_models"):
        load_default("encodec_24khz")


@pytest.fixture
def tokens_dir(tmp_path):
    rng = np.random.default_rng(0)
    # each code follows from the one before it, up to noise: there is something to learn
    clips = {}
    for i in range(6):
        codes = np.cumsum(rng.integers(0, 2, (60, 2)), axis=0) % 16
        clips[f"talk/{i}"] = tokens_from_frames(codes, 16, 75.0, codec="encodec_24khz")
    folder = tmp_path / "tokens"
    path = write_tokens(folder / "encodec_24khz.parquet", clips)
    entry = CorpusEntry(path.name, sha256_of(path), 1, "bundled: x", "c0ffee", 2, 6, 4.8, 720, 2880.0)
    write_index(
        folder,
        {"encodec_24khz": entry},
        [ClipRow(name, "talk", "speech", "", "held_out" if i < 2 else "train", 0.8) for i, name in enumerate(clips)],
    )
    source = {"title": "Talk", "licence": "CC0", "credit": "us", "domain": "speech"}
    (folder / "sources.json").write_text(json.dumps({"talk": source}))
    return folder


def test_the_script_writes_model_integers_and_card(script, tokens_dir, tmp_path, monkeypatch):
    shape = {"dim": 16, "layers": 1, "heads": 2, "hidden": 16, "window_frames": 8, "head_dim": 8, "head_hidden": 8}
    options = {"context_frames": 16, "stride_frames": 8, "batch_size": 4, "evaluations": 2}
    recipe = script.LMRecipe("encodec_24khz", {**shape, "dropout": 0.0}, options)
    out = tmp_path / "lm"
    script.build(recipe, out, tmp_path / "work", tokens_dir, steps=6)
    loaded = load_lm(out)
    assert loaded.config["provenance"]["codec_weights_sha256"] == "c0ffee"
    exact = load_exact(out / EXACT_NAME)
    assert exact.config.codebook_sizes == loaded.model.codebook_sizes == (16, 16)
    card = (out / "README.md").read_text()
    for text in (loaded.sha256, exact.sha256, "- Talk; CC0; us", "| language model |", "bigram, kneser_ney"):
        assert text in card, text
    assert "{" not in card, "every field is filled in"
    before = loaded.sha256
    script.build(recipe, out, tmp_path / "work", tokens_dir, steps=6)  # finished: nothing is trained again
    assert load_lm(out).sha256 == before


# ---------------------------------------------------------------- the bundled models


@pytest.mark.parametrize("codec", COLUMNS)
def test_bundled_models_are_of_the_bundled_tokens_and_codecs(codec, script):
    if not (data_dir() / "tokens" / "index.json").is_file() or not default_folder(codec).is_dir():
        pytest.skip("data/tokens or the model is not there: python data/models/make_language_models.py")
    tokens = bundled_tokens(codec)
    loaded = load_default(codec)
    about = loaded.config["provenance"]
    assert about["codec_weights_sha256"] == tokens.entry.codec_weights_sha256
    assert about["tokens_sha256"] == tokens.entry.sha256
    assert loaded.model.codebook_sizes == tokens.train.codebook_sizes
    assert (default_folder(codec) / "model.safetensors").exists() == script.RECIPES[codec].keeps_floats
    exact = load_exact(default_folder(codec) / EXACT_NAME)
    card = (default_folder(codec) / "README.md").read_text()
    assert loaded.sha256 in card
    assert exact.sha256 in card

import socket

import pytest
import torch

from codecbook.codecs import codec_names, load_codec
from codecbook.errors import MissingWeights, UnsupportedInput
from codecbook.models.weights import parse_weights, seeded

FROM_THE_HUB = ("snac_24khz", "dac_44khz", "mimi", "neucodec")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and no cache of an earlier download."""

    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnsupportedInput, match=r"no codec 'opus'; choose one of encodec_24khz, .*units_25hz"):
        load_codec("opus")


@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz", *FROM_THE_HUB])
def test_without_a_network_pretrained_weights_are_missing(offline, name, capfd):
    with pytest.raises(MissingWeights, match=rf"weights of {name} .* (http|hub).*pass weights= a local path"):
        load_codec(name, weights="pretrained")
    assert "Retry" not in capfd.readouterr().err


@pytest.mark.parametrize("name", FROM_THE_HUB)
def test_in_the_hubs_offline_mode_no_connection_is_tried(offline, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match="HF_HUB_OFFLINE is set"):
        load_codec(name, weights="pretrained")


@pytest.mark.parametrize("name", ["fsq_50hz", "units_25hz"])
def test_codecs_of_this_project_have_no_pretrained_weights(name):
    with pytest.raises(MissingWeights, match="this project's own"):
        load_codec(name, weights="pretrained")


def test_lyra_without_its_files_says_where_they_are(monkeypatch):
    monkeypatch.delenv("CODECBOOK_EXTRA", raising=False)
    with pytest.raises(MissingWeights, match=r"github\.com/google/lyra.*soundstream_encoder\.tflite"):
        load_codec("lyra_v2", weights="pretrained")
    with pytest.raises(MissingWeights, match="there are no random ones"):
        load_codec("lyra_v2", weights="random")


@pytest.mark.parametrize("name", codec_names())
def test_a_codec_without_bundled_weights_says_which_kinds_it_has(monkeypatch, tmp_path, name):
    monkeypatch.setenv("CODECBOOK_DATA", str(tmp_path))
    with pytest.raises(MissingWeights, match=f"{name} has no bundled weights .*or a path") as caught:
        load_codec(name)
    told = str(caught.value)
    assert ("'random:0'" in told) == (name != "lyra_v2")
    assert ("'pretrained'" in told) == (name not in ("fsq_50hz", "units_25hz"))


@pytest.mark.parametrize("name", codec_names())
def test_a_path_that_does_not_exist_is_named(name, tmp_path):
    with pytest.raises(MissingWeights, match=r"No weights are at .*gone"):
        load_codec(name, weights=tmp_path / "gone")


@pytest.mark.parametrize("name", ["encodec_24khz", *FROM_THE_HUB, "lyra_v2"])
def test_an_empty_folder_is_no_model(name, tmp_path):
    with pytest.raises(MissingWeights, match=f"{name}"):
        load_codec(name, weights=tmp_path)


def test_a_model_of_another_architecture_is_refused(small_folder):
    for name in ("encodec_24khz", "snac_24khz", "units_25hz"):
        with pytest.raises(UnsupportedInput, match="fsq, not"):
            load_codec(name, weights=small_folder("fsq_50hz"))
    with pytest.raises(UnsupportedInput, match="trains no mimi of its own"):
        load_codec("mimi", weights=small_folder("fsq_50hz"))


def test_seeds_decide_random_weights():
    assert parse_weights("mimi", "random") == parse_weights("mimi", "random:0")
    assert parse_weights("mimi", f"random:{(1 << 63) - 1}").seed == (1 << 63) - 1
    first, again, other = (load_codec("fsq_50hz", weights=f"random:{seed}") for seed in (1, 1, 2))
    assert first.weights == again.weights
    assert first.weights.sha256 != other.weights.sha256
    assert str(first.weights) == "random: seed 1"


def test_drawing_weights_leaves_torchs_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_codec("fsq_50hz", weights="random:1")
    with seeded(7):
        torch.rand(1)
    assert torch.equal(torch.rand(3), expected)


def test_bundled_weights_are_named_by_their_folder():
    folder = parse_weights("units_25hz", "bundled").path
    assert folder is not None
    assert parse_weights("units_25hz", folder).kind == "bundled"
    assert str(load_codec("units_25hz").weights) == "bundled: units_25hz_mini"

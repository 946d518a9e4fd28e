from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.errors import UnsupportedInput
from codecbook.lm.model_files import LoadedLM
from codecbook.lm.models import build_lm
from codecbook.probes.weights import moments as module
from codecbook.probes.weights.moments import Moments, by_name, codec_moments, lm_moments
from codecbook.probes.weights.tensors import CODEBOOKS, effective, matrix_shape, role_of

LAYERS = [
    nn.Linear(5, 4), nn.Conv1d(3, 4, 3), nn.Conv1d(3, 4, 3, stride=2, padding=2), nn.Conv1d(3, 4, 3, dilation=3),
    nn.ConvTranspose1d(3, 4, 4, stride=2), nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_moments_are_the_sums_over_positions(layer: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5) if isinstance(layer, nn.Linear) else torch.randn(1, 3, 20)
    collector = module._Collector()
    holder = nn.Sequential(layer)
    with collector.watching(holder):
        output = holder(x.requires_grad_())
        (output * (probe := torch.randn(output.shape))).sum().backward()
    (found,) = collector.moments(1).values()
    weight = next(layer.parameters()).detach()
    # the vectors that meet the matrix: rows of what a change of one entry of it changes, by brute force
    matrix = weight.reshape(len(weight), -1)
    gradient = next(layer.parameters()).grad
    assert gradient is not None
    assert found.rows.shape == (matrix.shape[0],) * 2
    assert found.columns.shape == (matrix.shape[1],) * 2
    left, right = pairs(layer, x.detach(), probe)
    np.testing.assert_allclose((left.T @ right).numpy(), gradient.reshape(matrix.shape).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.rows, (left.T @ left).double().numpy(), rtol=1e-4, atol=1e-5)
    mean = (right.T @ right).double().numpy() / len(left)
    np.testing.assert_allclose(found.columns, mean, rtol=1e-4, atol=1e-5)


def pairs(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what meets rows and columns at each position, ``[N, R]`` and ``[N, C]``, by loops."""
    if isinstance(layer, nn.Linear):
        return gradient, x
    assert isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    size, stride, padding, dilation = (
        int(n[0]) for n in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    swapped = isinstance(layer, nn.ConvTranspose1d)
    one, other = (x, gradient) if swapped else (gradient, x)
    rows, columns = [], []
    for t in range(one.shape[-1]):
        rows.append(one[0, :, t])
        met = torch.zeros(other.shape[1], size)
        for k in range(size):
            place = t * stride + k * dilation - padding
            if 0 <= place < other.shape[-1]:
                met[:, k] = other[0, :, place]
        columns.append(met.flatten())
    return torch.stack(rows), torch.stack(columns)


def check(found: dict[str, Moments], tensors: dict[str, torch.Tensor]) -> None:
    """All are of the shapes of their matrices, symmetric, and of no negative power."""
    for name, moment in found.items():
        if name == CODEBOOKS:
            continue
        R, C = matrix_shape(tuple(tensors[name].shape), role_of(name, tuple(tensors[name].shape)))
        assert moment.rows.shape in ((R,), (R, R))
        assert moment.columns.shape[-2:] == (C, C)
        assert moment.columns.ndim == 2 or R % len(moment.columns) == 0
        for part in (moment.rows if moment.rows.ndim == 2 else np.diag(moment.rows), *moment.columns.reshape(-1, C, C)):
            assert np.isfinite(part).all()
            np.testing.assert_allclose(part, part.T, rtol=1e-3, atol=1e-6 * np.abs(part).max())
            assert np.linalg.eigvalsh((part + part.T) / 2).min() >= -1e-4 * max(np.trace(part), 1e-12)


def test_a_codec_has_moments_of_all_its_convolutions_and_its_codebooks(codec: Codec, clip: Clip) -> None:
    found = codec_moments(codec, [clip])
    tensors = effective(codec.module)
    convolutions = {n for n, t in tensors.items() if t.ndim == 3 and n.endswith("weight")}
    assert found.keys() == convolutions | {CODEBOOKS}
    check(found, tensors)
    assert found[CODEBOOKS].rows.shape == (4 * 64,)
    assert found[CODEBOOKS].columns.shape == (4, 12, 12)
    # an early code counts for all later ones
    traces = np.trace(found[CODEBOOKS].columns, axis1=1, axis2=2)
    assert traces[0] > traces[-1]
    assert all(p.grad is None and not p.requires_grad for p in codec.module.parameters())
    again = codec_moments(codec, [clip])
    assert all(np.array_equal(found[name].columns, again[name].columns) for name in found)
    other = codec_moments(codec, [clip], seed=1)
    assert any(not np.array_equal(found[name].rows, other[name].rows) for name in found)


@pytest.mark.parametrize("name", ["fsq_50hz", "snac_24khz"])
def test_other_codecs_have_moments_of_their_convolutions(name: str, clip: Clip) -> None:
    codec = load_codec(name)
    samples = np.interp(np.arange(codec.sample_rate_hz // 2) * clip.sample_rate_hz / codec.sample_rate_hz,
                        np.arange(clip.samples.shape[1]), clip.samples[0])  # fmt: skip
    found = codec_moments(codec, [Clip(samples[None].astype(np.float32), codec.sample_rate_hz)])
    assert any(key.startswith("encoder.") for key in found)
    assert any(key.startswith("decoder.") for key in found)
    check(found, effective(codec.module))


def test_silence_has_moments_too(codec: Codec) -> None:
    silence = Clip(np.zeros((1, 6000), dtype=np.float32), 24_000)
    check(codec_moments(codec, [silence]), effective(codec.module))


def test_codecs_without_torch_and_no_clips_are_refused(codec: Codec) -> None:
    with pytest.raises(UnsupportedInput, match="no clips were given"):
        codec_moments(codec, [])
    stranger = SimpleNamespace(name="opus", module=nn.Linear(1, 1))
    with pytest.raises(UnsupportedInput, match="opus has no encoder"):
        codec_moments(stranger, [Clip(np.zeros((1, 10), np.float32), 24_000)])  # pyright: ignore[reportArgumentType]


def test_a_language_model_has_moments_of_all_its_matrices(lm: LoadedLM, codes: list[np.ndarray]) -> None:
    before = {name: t.clone() for name, t in lm.model.state_dict().items()}
    found = lm_moments(lm.model, codes)
    tensors = effective(lm.model)
    matrices = {n for n, t in tensors.items() if t.ndim > 1 and "bias" not in n}
    assert found.keys() == matrices
    check(found, tensors)
    assert found["head_weight"].columns.shape == (3, 8, 8)
    assert all(torch.equal(before[name], t) for name, t in lm.model.state_dict().items())
    assert "embed" not in vars(lm.model)
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_other_language_models_are_refused(lm: LoadedLM) -> None:
    with pytest.raises(UnsupportedInput, match="can be calibrated"):
        lm_moments(lm.model, [])
    flat = build_lm("tiny_gpt", {"codebook_sizes": [16], "dim": 8, "layers": 1, "heads": 2, "hidden": 8})
    with pytest.raises(UnsupportedInput, match="can be calibrated"):
        lm_moments(flat, [np.zeros((4, 1), dtype=np.int64)])


def test_moments_by_name_are_options_of_uniform() -> None:
    moments = Moments(np.ones(3), np.eye(2))
    assert by_name({"a": moments}, "b") == {}
    assert by_name({"a": moments}, "a") == {"rows": moments.rows, "gram": moments.columns}

"""How much each row and column of a model's matrices matters: the Kronecker factors that `uniform` spends bits by.

For a layer they are the second moments of its inputs and of the gradients of its outputs, collected on calibration
clips. Gradients are those of random probes, so that no labels are needed: of a codec's encoder, in the directions in
which latents decide a code; of its decoder, white noise against the clip's level; of a language model, codes drawn from
its own prediction, which makes the moments those of its Fisher information.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.codecs.networks import NetworkCodec
from codecbook.errors import UnsupportedInput
from codecbook.lm.models import RVQTransformer
from codecbook.probes.weights.tensors import CODEBOOKS

LAYERS = (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)
_FLOOR = 1e-4  # of levels, against silence
_LOCAL_SHARE, _LOCAL_S = 0.3, 0.2  # of the decoder's probes, by the level nearby: quiet passages count too


@dataclass(frozen=True)
class Moments:
    """Of one matrix ``[R, C]``, float64, per frame of the calibration clips."""

    rows: np.ndarray  # [R, R], or its diagonal [R]
    columns: np.ndarray  # [C, C], or [B, C, C] of equal blocks of rows


class _Collector:
    """Sums of second moments by parameter."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.columns: dict[str, np.ndarray] = {}
        self.positions: dict[str, int] = {}

    def add(self, into: dict[str, np.ndarray], name: str, vectors: Tensor) -> None:
        """Add the second moment of vectors ``[N, D]``."""
        vectors = vectors.detach()
        into[name] = into.get(name, 0.0) + (vectors.T @ vectors).double().numpy()

    def moments(self, frames: int) -> dict[str, Moments]:
        """Return what was seen: the second moment's expectation of one side, and the sum a frame of the other."""
        return {
            name: Moments(rows / frames, self.columns[name] / max(self.positions[name], 1))
            for name, rows in self.rows.items()
            if np.trace(rows) > 0
        }

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Collect inputs and gradients of all layers of a module inside the block."""
        handles = []
        for name, layer in module.named_modules():
            if isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1:
                handles.append(layer.register_forward_hook(self._hook(f"{name}.weight")))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def forward(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            met, answers = _sides(layer, inputs[0])
            self.add(self.columns if answers is None else self.rows, name, met)
            self.positions[name] = self.positions.get(name, 0) + len(met)

            def backward(gradient: Tensor) -> None:
                if answers is None:
                    self.add(self.rows, name, gradient.flatten(0, -2) if layer_is_linear else gradient[0].T)
                else:
                    self.add(self.columns, name, answers(gradient))

            layer_is_linear = isinstance(layer, nn.Linear)
            if output.requires_grad:
                output.register_hook(backward)

        return forward


def _sides(layer: Any, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
    """Return the vectors that meet a layer's matrix ``[first axis, the others]``, and how gradients meet it if swapped.

    A transposed convolution's first axis is its inputs, so that its gradients meet the columns.
    """
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2), None
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    padding = int(layer.padding[0])
    if isinstance(layer, nn.ConvTranspose1d):

        def answers(gradient: Tensor) -> Tensor:
            padded = nn.functional.pad(gradient[0], (padding, padding))
            return padded.unfold(-1, kernel, stride).permute(1, 0, 2).flatten(1)[: x.shape[-1]]

        return x[0].T, answers
    dilation = layer.dilation[0]
    padded = nn.functional.pad(x[0], (padding, padding))
    return padded.unfold(-1, (kernel - 1) * dilation + 1, stride)[..., ::dilation].permute(1, 0, 2).flatten(1), None


def codec_moments(codec: Codec, clips: Sequence[Clip], seed: int = 0) -> dict[str, Moments]:
    """Return the moments of a codec's convolutions by parameter, and of EnCodec's codebooks as `CODEBOOKS`.

    Args:
        codec: One whose network is an encoder, quantisers and a decoder in torch (EnCodec, SNAC, FSQ).
        clips: For calibration, at the codec's rate and channels; not those that results are measured on.
        seed: Of the probes.

    Raises UnsupportedInput: a codec without such a network, or no clips.
    """
    module = codec.module
    if not isinstance(codec, NetworkCodec) or not hasattr(module, "encoder") or not clips:
        raise UnsupportedInput(f"{codec.name} has no encoder in torch to calibrate, or no clips were given; give some.")
    with torch.no_grad():
        latents = [_encoded(module, clip) for clip in clips]
    codebooks = codebook_tensors(module)
    joined = torch.cat([x.T for x in latents])
    directions, tables = _code_directions(codebooks, joined) if codebooks else (_spread(joined), None)
    root = torch.from_numpy(np.linalg.cholesky(directions)).float()
    collector, generator = _Collector(), torch.Generator().manual_seed(seed)
    with collector.watching(module), torch.enable_grad(), _trainable(module):
        for clip in clips:
            z = _encoded(module, clip)
            (z.T * (torch.randn(z.T.shape, generator=generator) @ root.T)).sum().backward()
            _probe_decoder(codec, clip, generator)
    moments = collector.moments(len(joined))
    return {**moments, **({CODEBOOKS: tables} if tables else {})}


def _encoded(module: Any, clip: Clip) -> Tensor:
    """Return latents ``[D, T]``."""
    return module.encoder(torch.tensor(clip.samples)[None].requires_grad_())[0]


def _probe_decoder(codec: NetworkCodec, clip: Clip, generator: torch.Generator) -> None:
    latents = torch.tensor(codec.latents(codec.encode(clip).codes))[None].requires_grad_()
    audio = codec.module.decoder(latents)
    power = audio.detach().pow(2)
    reach = round(_LOCAL_S * codec.sample_rate_hz / 2)
    nearby = nn.functional.avg_pool1d(power, 2 * reach + 1, 1, reach, count_include_pad=False).sqrt()
    level = power.mean().sqrt()
    weight = (1 / (level + _FLOOR) ** 2 + _LOCAL_SHARE / (nearby + 0.02 * level + _FLOOR) ** 2).sqrt()
    (audio * weight * torch.randn(audio.shape, generator=generator)).sum().backward()


@contextmanager
def _trainable(module: nn.Module) -> Iterator[None]:
    """Let gradients pass a module inside the block, without keeping any."""
    module.requires_grad_(True)
    try:
        yield
    finally:
        module.requires_grad_(False)
        module.zero_grad(set_to_none=True)


def codebook_tensors(module: Any) -> list[Tensor]:
    """Return EnCodec's codebooks ``[V, D]``, first to last; none of other codecs."""
    layers = getattr(getattr(getattr(module, "quantizer", None), "vq", None), "layers", [])
    return [layer._codebook.embed.detach() for layer in layers]


def _spread(latents: Tensor) -> np.ndarray:
    """Return the metric in which every latent counts by its own deviation, float64 ``[D, D]``."""
    return np.diag(1 / (latents.var(dim=0).double().numpy() + 1e-12))


def _code_directions(codebooks: Sequence[Tensor], latents: Tensor) -> tuple[np.ndarray, Moments]:
    """Return what a shift of latents ``[T, D]`` and of codewords costs in codes, to second order.

    A code changes where the residual crosses the plane between the nearest codeword and the second. A shift counts in
    the plane's normal direction, an error of a codeword by its side of the residual, both against the usual distance
    to the plane; an early code counts for all later ones, which change with it.
    """
    residual, K = latents, len(codebooks)
    planes, sides, used = [], [], []
    for k, codebook in enumerate(codebooks):
        distances = torch.cdist(residual, codebook)
        nearest = distances.topk(2, largest=False).indices
        first, second = codebook[nearest[:, 0]], codebook[nearest[:, 1]]
        length = (second - first).norm(dim=1, keepdim=True)
        length = length.clamp_min(0.1 * float(length.median()) + 1e-9)  # codewords may be (nearly) equal
        normal = ((second - first) / length).double().numpy()
        gap = (distances.gather(1, nearest[:, 1:]) ** 2 - distances.gather(1, nearest[:, :1]) ** 2) / (2 * length)
        weight = (K - k) / max(float(gap.median()), 1e-9)
        residual = residual - first
        side = (residual / length).double().numpy()
        planes.append(weight * normal.T @ normal / len(normal))
        sides.append(2 * weight * side.T @ side / len(side))
        used.append(torch.bincount(nearest.flatten(), minlength=len(codebook)).double().numpy())
    total = sum(planes) + 1e-9 * np.trace(sum(planes)) * np.eye(len(planes[0]))
    columns = np.stack([sides[k] + sum(planes[k + 1 :], np.zeros_like(total)) for k in range(K)])
    share = [(count + count.mean()) / (2 * count.sum()) for count in used]
    return total, Moments(np.concatenate(share), columns)


def lm_moments(model: Any, clips: Sequence[np.ndarray], seed: int = 0) -> dict[str, Moments]:
    """Return the moments of all matrices of an `RVQTransformer`, by parameter.

    Args:
        model: In evaluation mode.
        clips: Codes int64 ``[T, K]`` for calibration.
        seed: Of the codes that are drawn.

    Raises UnsupportedInput: another kind of model, or no clips.
    """
    if not isinstance(model, RVQTransformer) or not model.conditioned or not clips:
        raise UnsupportedInput("Only an RVQTransformer with in-frame conditioning, and clips, can be calibrated.")
    K, V = model.num_codebooks, model.codebook_sizes[0]
    collector, generator = _Collector(), torch.Generator().manual_seed(seed)
    heads = [torch.zeros(model.config.head_dim, model.config.head_dim, dtype=torch.float64) for _ in range(K)]
    spread, used, frames = torch.zeros(K, V, dtype=torch.float64), np.zeros((K, V + 1)), 0

    def read_heads(_layer: nn.Module, _inputs: object, x: Tensor) -> None:
        for k in range(K):
            heads[k] += (x[:, k].T @ x[:, k]).detach().double()

    def of_table(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
            output.register_hook(lambda g: collector.add(collector.columns, name, g.flatten(0, -2)))

        return hook

    class _Embedded(nn.Module):  # a module, as hooks need one, where the model calls a function
        def forward(self, codes: Tensor, position: int = 0) -> Tensor:
            return type(model).embed(model, codes, position)

    embedded = _Embedded()
    handles = [
        model.logits_norm.register_forward_hook(read_heads),
        model.frame_embedding.register_forward_hook(of_table("frame_embedding.weight")),
        embedded.register_forward_hook(of_table("embedding.weight")),
    ]
    vars(model)["embed"] = embedded  # pyright: ignore[reportIndexIssue]
    try:
        with collector.watching(model), torch.enable_grad(), _trainable(model):
            for codes in clips:
                frame_codes = torch.from_numpy(np.array(codes, dtype=np.int64))[None]
                logits = model(frame_codes)
                shares = logits.detach().softmax(-1)
                drawn = torch.multinomial(shares.flatten(0, 2), 1, generator=generator)
                nn.functional.cross_entropy(logits.flatten(0, 2), drawn[:, 0], reduction="sum").backward()
                spread += (shares * (1 - shares))[0].sum(0).double()
                for k in range(K):
                    used[k] += np.bincount(frame_codes[0, :, k], minlength=V + 1)
                used[:, V] += 1
                frames += frame_codes.shape[1]
    finally:
        del vars(model)["embed"]  # pyright: ignore[reportIndexIssue]
        for handle in handles:
            handle.remove()
    tables = {
        "embedding.weight": _smoothed(used.ravel() / frames, collector.columns["embedding.weight"] / frames),
        "frame_embedding.weight": _smoothed(
            used[:-1, :V].ravel() / frames, collector.columns["frame_embedding.weight"] / frames / (K - 1)
        ),
        "head_weight": _smoothed(spread.numpy().ravel() / frames, np.stack([h.numpy() for h in heads]) / frames),
    }
    return {**collector.moments(frames), **tables}


def _smoothed(rows: np.ndarray, columns: np.ndarray) -> Moments:
    """Return moments of a table, in which a row that calibration did not meet counts half as much as the mean row."""
    return Moments((rows + rows.mean()) / 2, columns)


def by_name(moments: Mapping[str, Moments], name: str) -> dict[str, np.ndarray]:
    """Return what `codecbook.probes.weights.schemes.uniform.encode_uniform` takes of a matrix, nothing if unknown."""
    found = moments.get(name)
    return {} if found is None else {"rows": found.rows, "gram": found.columns}

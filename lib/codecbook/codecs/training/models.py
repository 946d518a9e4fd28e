"""What the training loop needs to know about each kind of codec: latents, quantisation, codebooks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import snac
import torch
from torch import Tensor, nn
from torch.nn import functional

from codecbook.codecs.build import FsqCodec
from codecbook.codecs.encodec_package import encodec
from codecbook.codecs.training.rvq import cluster_sums, fit_codebook, init_codebooks, nearest_codes, residual_stages
from codecbook.codecs.training.start import linear_start, principal_components

AllReduce = Callable[[Tensor], Tensor]
# in units of the other dimensions' root mean square length
_SNAC_CONSTANT = 2.0


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Return the quantised values with the gradient of the latents (Bengio et al. 2013)."""
    return latents + (quantized - latents).detach()


class Trainable(ABC):
    """A codec as the training loop sees it; its encoder and decoder are `module.encoder` and `module.decoder`.

    `num_codebooks` counts codebooks or levels; `drops_codebooks` says whether leading ones alone decode, so that
    quantiser dropout makes sense; `refits` whether codebooks are fitted by k-means.
    """

    num_codebooks = 1
    drops_codebooks = False
    refits = True

    def __init__(self, module: Any) -> None:
        self.module = module

    def normalise(self, waveform: Tensor) -> Tensor:
        """Scale a batch ``[B, C, S]`` as the codec does before encoding."""
        return waveform

    @abstractmethod
    def start(self, waveform: Tensor) -> None:
        """Set the parameters up from a batch of audio."""

    def latents(self, waveform: Tensor) -> Tensor:
        """Encode ``[B, C, S]`` to continuous latents ``[B, D, T]``."""
        return self.module.encoder(waveform)

    def continuous(self, latents: Tensor) -> Tensor:
        """Pass latents through the bottleneck without quantising them."""
        return latents

    @abstractmethod
    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Quantise latents, straight-through; return (quantised latents, mean commitment loss of the codebooks)."""

    def update_codebooks(self, all_reduce: AllReduce, generator: torch.Generator) -> None:  # noqa: B027
        """Move the codebooks towards the vectors of the last call of `quantize`, if they move by averages."""

    def fit_codebooks(self, latents: Tensor, seed: int) -> None:  # noqa: B027
        """Fit all codebooks by k-means to latents ``[B, D, T]``, if there are any to fit."""

    def decoding_parameters(self) -> Iterable[nn.Parameter]:
        """Yield what may still change once the codes are frozen."""
        return self.module.decoder.parameters()

    def decode(self, quantized: Tensor) -> Tensor:
        """Decode quantised latents to ``[B, C, S]``."""
        return self.module.decoder(quantized)


class _Encodec(Trainable):
    """EnCodec: residual codebooks that follow running averages; unused codewords are replaced."""

    drops_codebooks = True
    decay = 0.98
    dead_below = 0.3

    def __init__(self, module: "encodec.model.EncodecModel") -> None:
        super().__init__(module)
        self.num_codebooks = module.quantizer.n_q
        layers: Any = module.quantizer.vq.layers
        self._books: list[Any] = [layer._codebook for layer in layers]
        self._met: list[tuple[Tensor, Tensor]] = []

    def normalise(self, waveform: Tensor) -> Tensor:
        """Divide by the level of the mono mix where the model does (48 kHz)."""
        if not self.module.normalize:
            return waveform
        level = waveform.mean(dim=1, keepdim=True).square().mean(dim=2, keepdim=True).sqrt()
        return waveform / (1e-8 + level)

    def start(self, waveform: Tensor) -> None:
        linear_start(self.module.encoder, self.module.decoder, self.normalise(waveform))

    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        books = (book.embed for book in self._books[:num_codebooks])
        stages = list(residual_stages(_vectors(latents), books))
        self._met = [(residual.detach(), codes) for residual, codes, _ in stages]
        quantized = sum((words for _, _, words in stages), torch.zeros_like(stages[0][0]))
        losses = [functional.mse_loss(residual, words) for residual, _, words in stages]
        quantized = quantized.unflatten(0, (latents.shape[0], -1)).transpose(1, 2)
        return straight_through(latents, quantized), sum(losses, latents.new_zeros(())) / num_codebooks

    @torch.no_grad()
    def update_codebooks(self, all_reduce: AllReduce, generator: torch.Generator) -> None:
        """Update the running averages; put vectors of this batch where a codeword is no longer used."""
        for book, (vectors, codes) in zip(self._books, self._met, strict=False):
            counts, sums = (all_reduce(part) for part in cluster_sums(vectors, codes, len(book.embed)))
            book.cluster_size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
            book.embed_avg.mul_(self.decay).add_(sums, alpha=1 - self.decay)
            dead = book.cluster_size < self.dead_below * book.cluster_size.mean()
            dead &= book.cluster_size < 0.1
            if dead.any():
                picks = torch.randint(len(vectors), (int(dead.sum()),), generator=generator)
                # of several processes each draws the same positions; the mean keeps their codebooks equal
                words = all_reduce(vectors[picks.to(vectors.device)])
                book.cluster_size[dead] = book.cluster_size.mean().clamp(min=1e-3)
                book.embed_avg[dead] = words * book.cluster_size[dead][:, None]
            book.embed.copy_(book.embed_avg / book.cluster_size.clamp(min=1e-5)[:, None])

    @torch.no_grad()
    def fit_codebooks(self, latents: Tensor, seed: int) -> None:
        """Fit residual by residual, and set the running averages to agree."""
        codebooks = init_codebooks(_vectors(latents), self.num_codebooks, len(self._books[0].embed), seed)
        for book, codebook in zip(self._books, codebooks, strict=True):
            book.embed.copy_(codebook)
            book.embed_avg.copy_(codebook)
            book.cluster_size.fill_(1.0)
            book.inited.fill_(1.0)


class _Snac(Trainable):
    """SNAC: levels at several rates, compared by direction in a few dimensions."""

    step_size = 0.1

    def __init__(self, module: snac.SNAC) -> None:
        super().__init__(module)
        self.num_codebooks = module.n_codebooks
        self._met: list[tuple[Tensor, Tensor]] = []
        self._levels: Any = module.quantizer.quantizers
        for level in self._levels:
            level.codebook.weight.requires_grad_(False)

    @torch.no_grad()
    def start(self, waveform: Tensor) -> None:
        linear_start(self.module.encoder, self.module.decoder, self.module.preprocess(waveform))
        self._through_levels(self.latents(waveform), self._start_projections)

    def _start_projections(self, level: Any, pooled: Tensor) -> Tensor:
        """Let a level's projection keep the principal components of what the levels before it left over.

        SNAC compares directions alone, and would be deaf to amplitudes. One dimension is therefore set to a
        constant: the direction of (v, c) tells the length of v as well, and for lengths well below c the angle
        between two such vectors is in proportion to their distance.
        """
        vectors = _vectors(pooled)
        directions = principal_components(vectors, level.codebook_dim - 1)
        length = (vectors @ directions.T).square().sum(dim=1).mean().sqrt()
        spare = 1e-4 * torch.ones_like(directions[:1])
        level.in_proj.weight = torch.cat([directions / length, spare])[:, :, None]
        level.out_proj.weight = torch.cat([directions * length, spare]).T[:, :, None]
        level.in_proj.bias.zero_()
        level.in_proj.bias[-1] = _SNAC_CONSTANT
        level.out_proj.bias.copy_(-level.out_proj.weight[:, -1, 0] * _SNAC_CONSTANT)
        return level.in_proj(pooled)

    def latents(self, waveform: Tensor) -> Tensor:
        """Encode, padded to whole frames of the coarsest level."""
        return self.module.encoder(self.module.preprocess(waveform))

    def _through_levels(self, latents: Tensor, project: Callable[[Any, Tensor], Tensor]) -> Tensor:
        """Add up what the levels make of what those before them left over; `project` is given level and input."""
        residual, total = latents, torch.zeros_like(latents)
        for level in self._levels:
            pooled = functional.avg_pool1d(residual, level.stride, level.stride)
            part = level.out_proj(project(level, pooled)).repeat_interleave(level.stride, dim=-1)
            total, residual = total + part, residual - part
        return total

    def continuous(self, latents: Tensor) -> Tensor:
        """Pass pooling and projections alone."""
        return self._through_levels(latents, lambda level, pooled: level.in_proj(pooled))

    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Quantise all levels; the vectors are drawn to their codewords."""
        self._met = []
        losses = []

        def quantized(level: Any, pooled: Tensor) -> Tensor:
            projected = level.in_proj(pooled)
            words, codes = level.decode_latents(projected)
            self._met.append((_vectors(projected.detach()), codes.flatten()))
            losses.append(functional.mse_loss(projected, words))
            return straight_through(projected, words)

        return self._through_levels(latents, quantized), torch.stack(losses).mean()

    @torch.no_grad()
    def update_codebooks(self, all_reduce: AllReduce, generator: torch.Generator) -> None:
        """Move each codeword that was used a step towards the mean of its vectors.

        Left to the optimiser, as in the package, codewords fell behind the vectors of an encoder that learns fast,
        and the commitment loss grew without bound.
        """
        for level, (vectors, codes) in zip(self._levels, self._met, strict=True):
            words = level.codebook.weight
            counts, sums = (all_reduce(part) for part in cluster_sums(vectors, codes, len(words)))
            used = counts > 0
            words[used] = words[used].lerp(sums[used] / counts[used][:, None], self.step_size)

    @torch.no_grad()
    def fit_codebooks(self, latents: Tensor, seed: int) -> None:
        """Cluster the directions of each level's vectors; codewords are the means of the clusters."""

        def fitted(level: Any, pooled: Tensor) -> Tensor:
            projected = level.in_proj(pooled)
            vectors = _vectors(projected)
            directions = functional.normalize(vectors)
            fit = fit_codebook(directions.cpu().numpy(), level.codebook_size, seed)
            centres = torch.from_numpy(fit).to(vectors)
            counts, sums = cluster_sums(vectors, nearest_codes(directions, centres), level.codebook_size)
            used = counts > 0
            words = functional.normalize(centres) * vectors.norm(dim=1).mean()
            words[used] = sums[used] / counts[used][:, None]
            level.codebook.weight.copy_(words)
            return level.decode_latents(projected)[0]

        self._through_levels(latents, fitted)


class _Fsq(Trainable):
    """FSQ: rounding with a straight-through gradient; nothing to fit, nothing to commit to."""

    refits = False

    def start(self, waveform: Tensor) -> None:
        """Begin with the leading principal components quantised."""
        encoder, decoder, quantizer = self.module.encoder, self.module.decoder, self.module.quantizer
        linear_start(encoder, decoder, waveform)
        with torch.no_grad():
            latents = encoder(waveform)
            count = quantizer.project_in.weight.shape[0]
            # components come ordered by variance; the quantiser's tanh wants them at a deviation near 1
            deviation = latents.std(dim=(0, 2))[:count]
            quantizer.project_in.weight.zero_()[:, :count] = torch.diag(0.8 / deviation)
            quantizer.project_in.bias.zero_()
            quantizer.project_out.weight.zero_()[:count] = torch.eye(count)
            quantizer.project_out.bias.zero_()
            values = quantizer(latents.transpose(1, 2))[0][..., :count].flatten(0, 1)
            wanted = _vectors(latents)[:, :count]
            gain = (values * wanted).mean(dim=0) / values.square().mean(dim=0).clamp(min=1e-6)
            quantizer.project_out.weight[:count] = torch.diag(gain)

    def continuous(self, latents: Tensor) -> Tensor:
        """Quantise as well: rounding is benign from the first step."""
        return self.quantize(latents, 1)[0]

    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Round each scalar to its levels."""
        return self.module.quantizer(latents.transpose(1, 2))[0].transpose(1, 2), latents.new_zeros(())

    def decoding_parameters(self) -> Iterable[nn.Parameter]:
        """Yield the decoder's parameters and the projection in front of it."""
        yield from self.module.decoder.parameters()
        yield from self.module.quantizer.project_out.parameters()


def _vectors(latents: Tensor) -> Tensor:
    """Return latents ``[B, D, T]`` as vectors ``[B * T, D]``."""
    return latents.transpose(1, 2).flatten(0, 1)


def trainable(module: nn.Module) -> Trainable:
    """Wrap a codec of `codecbook.codecs.build` for training."""
    adapters = {encodec.model.EncodecModel: _Encodec, snac.SNAC: _Snac, FsqCodec: _Fsq}
    return adapters[type(module)](module)

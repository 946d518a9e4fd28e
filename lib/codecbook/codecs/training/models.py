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
from codecbook.codecs.training.losses import commitment_loss
from codecbook.codecs.training.rvq import cluster_sums, fit_codebook, init_codebooks, nearest_codes
from codecbook.codecs.training.start import linear_start, principal_components
from codecbook.errors import UnsupportedInput

AllReduce = Callable[[Tensor], Tensor]
# in units of the other dimensions' root mean square length
_SNAC_CONSTANT = 2.0


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Return the quantised values with the gradient of the latents (Bengio et al. 2013)."""
    return latents + (quantized - latents).detach()


class Trainable(ABC):
    """A codec as the training loop sees it.

    Attributes:
        module: The codec; its encoder and decoder are `module.encoder` and `module.decoder`.
        num_codebooks: Codebooks or levels.
        drops_codebooks: Whether leading codebooks alone decode, so that quantiser dropout makes sense.
        refits: Whether codebooks are fitted by k-means.
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

    @abstractmethod
    def continuous(self, latents: Tensor) -> Tensor:
        """Pass latents through the bottleneck without quantising them."""

    @abstractmethod
    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Quantise latents, straight-through; return (quantised latents, commitment loss)."""

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


class TrainableEncodec(Trainable):
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
        """Begin as a cascade of principal component transforms."""
        linear_start(self.module.encoder, self.module.decoder, self.normalise(waveform))

    def continuous(self, latents: Tensor) -> Tensor:
        """Return the latents as they are."""
        return latents

    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Quantise with the leading codebooks; the commitment is averaged over them."""
        self._met = []
        residual = latents.transpose(1, 2).flatten(0, 1)  # [B * T, D]
        quantized = torch.zeros_like(residual)
        commitment = latents.new_zeros(())
        for book in self._books[:num_codebooks]:
            codes = nearest_codes(residual.detach(), book.embed)
            words = book.embed[codes]
            commitment = commitment + commitment_loss(residual, words)
            self._met.append((residual.detach(), codes))
            quantized = quantized + words
            residual = residual - words
        quantized = quantized.unflatten(0, (latents.shape[0], -1)).transpose(1, 2)
        return straight_through(latents, quantized), commitment / num_codebooks

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
        vectors = latents.transpose(1, 2).flatten(0, 1)
        size = len(self._books[0].embed)
        codebooks = init_codebooks(vectors, self.num_codebooks, size, seed)
        for book, codebook in zip(self._books, codebooks, strict=True):
            book.embed.copy_(codebook)
            book.embed_avg.copy_(codebook)
            book.cluster_size.fill_(1.0)
            book.inited.fill_(1.0)


class TrainableSnac(Trainable):
    """SNAC: levels at several rates, compared by direction in a few dimensions."""

    step_size = 0.1

    def __init__(self, module: snac.SNAC) -> None:
        super().__init__(module)
        self.num_codebooks = module.n_codebooks
        self._met: list[tuple[Tensor, Tensor]] = []
        levels: Any = module.quantizer.quantizers
        for level in levels:
            level.codebook.weight.requires_grad_(False)

    @torch.no_grad()
    def start(self, waveform: Tensor) -> None:
        """Begin as a cascade of principal component transforms."""
        linear_start(self.module.encoder, self.module.decoder, self.module.preprocess(waveform))
        self._start_projections(self.latents(waveform))

    def _start_projections(self, latents: Tensor) -> None:
        """Let each level's projection keep the principal components of what the levels before it left over.

        SNAC compares directions alone, and would be deaf to amplitudes. One dimension is therefore set to a
        constant: the direction of (v, c) tells the length of v as well, and for lengths well below c the angle
        between two such vectors is in proportion to their distance.
        """
        residual = latents
        for level in self.module.quantizer.quantizers:
            pooled = functional.avg_pool1d(residual, level.stride, level.stride)
            vectors = pooled.transpose(1, 2).flatten(0, 1)
            directions = principal_components(vectors, level.codebook_dim - 1)
            length = (vectors @ directions.T).square().sum(dim=1).mean().sqrt()
            spare = 1e-4 * torch.ones_like(directions[:1])
            level.in_proj.weight = torch.cat([directions / length, spare])[:, :, None]
            level.out_proj.weight = torch.cat([directions * length, spare]).T[:, :, None]
            level.in_proj.bias.zero_()
            level.in_proj.bias[-1] = _SNAC_CONSTANT
            level.out_proj.bias.copy_(-level.out_proj.weight[:, -1, 0] * _SNAC_CONSTANT)
            part = level.out_proj(level.in_proj(pooled)).repeat_interleave(level.stride, dim=-1)
            residual = residual - part

    def latents(self, waveform: Tensor) -> Tensor:
        """Encode ``[B, 1, S]``, padded to whole frames of the coarsest level."""
        return self.module.encoder(self.module.preprocess(waveform))

    def _levels(self, latents: Tensor, through: Callable[[Any, Tensor], Tensor]) -> Tensor:
        residual, total = latents, torch.zeros_like(latents)
        for level in self.module.quantizer.quantizers:
            pooled = functional.avg_pool1d(residual, level.stride, level.stride)
            part = level.out_proj(through(level, level.in_proj(pooled)))
            part = part.repeat_interleave(level.stride, dim=-1)
            total, residual = total + part, residual - part
        return total

    def continuous(self, latents: Tensor) -> Tensor:
        """Pass pooling and projections alone."""
        return self._levels(latents, lambda _level, projected: projected)

    def quantize(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Quantise all levels; the vectors are drawn to their codewords."""
        self._met = []
        losses = []

        def through(level: Any, projected: Tensor) -> Tensor:
            words, codes = level.decode_latents(projected)
            self._met.append((projected.detach().transpose(1, 2).flatten(0, 1), codes.flatten()))
            losses.append(commitment_loss(projected, words))
            return straight_through(projected, words)

        return self._levels(latents, through), torch.stack(losses).mean()

    @torch.no_grad()
    def update_codebooks(self, all_reduce: AllReduce, generator: torch.Generator) -> None:
        """Move each codeword that was used a step towards the mean of its vectors.

        Left to the optimiser, as in the package, codewords fell behind the vectors of an encoder that learns fast,
        and the commitment loss grew without bound.
        """
        levels: Any = self.module.quantizer.quantizers
        for level, (vectors, codes) in zip(levels, self._met, strict=True):
            words = level.codebook.weight
            counts, sums = (all_reduce(part) for part in cluster_sums(vectors, codes, len(words)))
            used = counts > 0
            words[used] = words[used].lerp(sums[used] / counts[used][:, None], self.step_size)

    @torch.no_grad()
    def fit_codebooks(self, latents: Tensor, seed: int) -> None:
        """Cluster the directions of each level's vectors; codewords are the means of the clusters."""

        def through(level: Any, projected: Tensor) -> Tensor:
            vectors = projected.transpose(1, 2).flatten(0, 1)
            directions = functional.normalize(vectors)
            centres = torch.from_numpy(fit_codebook(directions.cpu().numpy(), level.codebook_size, seed))
            codes = nearest_codes(directions, centres.to(vectors))
            counts, sums = cluster_sums(vectors, codes, level.codebook_size)
            used = counts > 0
            length = vectors.norm(dim=1).mean()
            words = functional.normalize(centres.to(vectors)) * length
            words[used] = sums[used] / counts[used][:, None]
            level.codebook.weight.copy_(words)
            return level.decode_latents(projected)[0]

        self._levels(latents, through)


class TrainableFsq(Trainable):
    """FSQ: rounding with a straight-through gradient; nothing to fit, nothing to commit to."""

    refits = False

    def start(self, waveform: Tensor) -> None:
        """Begin as a cascade of principal component transforms, its leading components quantised."""
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
            wanted = latents.transpose(1, 2)[..., :count].flatten(0, 1)
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


def trainable(module: nn.Module) -> Trainable:
    """Wrap a codec for training.

    Raises:
        UnsupportedInput: Not one of the kinds that `codecbook.codecs.build` makes.
    """
    if isinstance(module, encodec.model.EncodecModel):
        return TrainableEncodec(module)
    if isinstance(module, snac.SNAC):
        return TrainableSnac(module)
    if isinstance(module, FsqCodec):
        return TrainableFsq(module)
    raise UnsupportedInput(f"{type(module).__name__} has no training adapter; build it with codecbook.codecs.build.")

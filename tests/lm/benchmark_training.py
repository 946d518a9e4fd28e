"""Print training tokens per second beside a plain PyTorch loop over `nn.TransformerEncoder`. Not a test.

    python tests/lm/benchmark_training.py [--threads 2] [--pairs 5]

Both read the same windows of 8 x 1024 tokens and predict the same ones: embeddings summed over codebooks, the same
number of layers, widths and heads, one linear head per codebook, cross-entropy, AdamW, clipped gradients. The plain
loop is what one would write first: `nn.TransformerEncoderLayer`, a causal mask, `F.cross_entropy`. Ours is `Passes`
and the optimizer of `codecbook.lm.loop`, with all that a run does at each step: order, checks, averaged weights. They
take turns, so that whatever else the machine does meets both.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codecbook.lm.data import Corpus
from codecbook.lm.loop import parameter_groups
from codecbook.lm.models import build_lm, num_parameters
from codecbook.lm.options import TrainOptions
from codecbook.lm.passes import Passes
from codecbook.lm.processes import joined_processes
from codecbook.tokens import tokens_from_frames

K, V = 8, 1024
DIM, LAYERS, HEADS, HIDDEN = 256, 4, 4, 1024
FRAMES, BATCH = 256, 8


class PlainModel(nn.Module):
    """Summed embeddings, `nn.TransformerEncoder`, one head per codebook: nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(V + 1, DIM) for _ in range(K))
        self.positions = nn.Embedding(FRAMES, DIM)
        layer = nn.TransformerEncoderLayer(
            DIM, HEADS, HIDDEN, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, LAYERS, norm=nn.LayerNorm(DIM), enable_nested_tensor=False
        )
        self.heads = nn.ModuleList(nn.Linear(DIM, V) for _ in range(K))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(FRAMES))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits ``[B, T, K, V]`` for codes ``[B, T, K]``."""
        shifted = torch.cat((torch.full_like(codes[:, :1], V), codes[:, :-1]), dim=1)
        x = sum(table(shifted[..., k]) for k, table in enumerate(self.embeddings))
        x = x + self.positions.weight[: codes.shape[1]]
        x = self.encoder(x, mask=self.get_buffer("mask"), is_causal=True)
        return torch.stack([head(x) for head in self.heads], dim=2)


def plain_step(corpus: Corpus) -> tuple[Callable[[int], None], int]:
    """Return one step of the plain loop, and the number of its parameters."""
    model = PlainModel().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    windows = corpus.windows(FRAMES)
    order = np.random.default_rng(0).permutation(len(windows))

    def step(index: int) -> None:
        chosen = order[np.arange(index * BATCH, (index + 1) * BATCH) % len(order)]
        codes = torch.from_numpy(windows.batch(chosen))
        loss = F.cross_entropy(model(codes).flatten(0, 2), codes.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, num_parameters(model)


def our_step(corpus: Corpus, conditioning: str, processes) -> tuple[Callable[[int], None], int]:
    """Return one step of this package's training, and the number of the model's parameters."""
    shape = {"dim": DIM, "layers": LAYERS, "heads": HEADS, "hidden": HIDDEN, "window_frames": FRAMES}
    model = build_lm("rvq_transformer", {"codebook_sizes": (V,) * K, "conditioning": conditioning, **shape})
    options = TrainOptions(context_frames=FRAMES, stride_frames=FRAMES, batch_size=BATCH)
    passes = Passes(model, corpus.windows(FRAMES), options, processes)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-4, fused=True)
    averages = [parameter.detach().clone() for parameter in model.parameters()]

    def step(index: int) -> None:
        passes.gradients(index, 0.0)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averages, model.parameters(), strict=True):
                average.lerp_(parameter, 0.002)
        optimizer.zero_grad(set_to_none=True)

    return step, num_parameters(model)


def compare(pairs: int, steps: int) -> None:
    """Take turns, and print tokens per second and the ratio to the plain loop."""
    rng = np.random.default_rng(0)
    # whole windows, as the plain loop knows no filling
    clips = {f"c{i}": tokens_from_frames(rng.integers(0, V, (8 * FRAMES, K)), V, 75.0) for i in range(20)}
    corpus = Corpus.from_tokens(clips)
    with joined_processes("cpu") as processes:
        cases = {
            "plain nn.TransformerEncoder": plain_step(corpus),
            "this package, independent heads": our_step(corpus, "none", processes),
            "this package, conditioned heads": our_step(corpus, "in_frame", processes),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for step, _ in cases.values():
            step(0)  # the first one allocates
        for pair in range(pairs):
            for name, (step, _) in cases.items():
                begun = time.perf_counter()
                for index in range(steps):
                    step(1 + pair * steps + index)
                seconds[name].append((time.perf_counter() - begun) / steps)
    plain = seconds["plain nn.TransformerEncoder"]
    for name, (_, parameters) in cases.items():
        ratios = sorted(p / s for p, s in zip(plain, seconds[name], strict=True))
        rate = BATCH * FRAMES * K / median(seconds[name])
        print(
            f"{name:32s} {parameters:>11,} parameters {rate:9.0f} tokens/s, {median(ratios):.2f} times the plain loop "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description="Training speed beside a plain PyTorch loop.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps per turn (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    compare(options.pairs, options.steps)


if __name__ == "__main__":
    main()

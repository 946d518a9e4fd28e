"""Draw tokens from a language model, code by code."""

import numpy as np
import torch
from torch import Tensor

from codecbook.errors import UnsupportedInput
from codecbook.lm.score import evaluating
from codecbook.lm.token_lm import TokenLM
from codecbook.tokens.tokens import checked_codes


def sample(
    model: TokenLM,
    num_frames: int,
    prompt: np.ndarray | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw frames after BOS or a prompt, without dropout; return int64 ``[T_0 + num_frames, K]``, the prompt included.

    Random numbers come from a CPU generator whatever the device, so equal logits give equal tokens everywhere. A
    prompt, integers ``[T_0, K]``, is continued; None starts from BOS. `temperature` divides the logits, and 0 takes the
    most probable code; `top_k` draws from that many of the most probable codes alone.

    Raises:
        UnsupportedInput: A setting out of range, a prompt of another shape, or more frames than the model's context.
        CorruptInput: A code of the prompt outside its codebook.
    """
    if num_frames < 1:
        raise UnsupportedInput(f"num_frames={num_frames}; draw 1 frame or more.")
    if not 0.0 <= temperature < float("inf"):
        raise UnsupportedInput(f"temperature={temperature}; give 0 (most probable code) or a positive number.")
    if top_k is not None and top_k < 1:
        raise UnsupportedInput(f"top_k={top_k}; give 1 or more, or None to allow all codes.")
    before = np.zeros((0, model.num_codebooks), np.int64)
    if prompt is not None:
        before = checked_codes(prompt, model.codebook_sizes, "The prompt")
        if before.ndim != 2:
            raise UnsupportedInput(f"A prompt has the axes [T, K]; received {list(before.shape)}.")
    model.check_position(len(before) + num_frames)
    generator = torch.Generator().manual_seed(seed)
    frames = torch.from_numpy(np.array(before))  # [T, K], on the CPU
    with evaluating(model):
        hidden, state = model.begin()
        unread = frames
        for _ in range(num_frames):
            if len(unread):
                hidden, state = model.read(unread.to(model.device)[None], state)
            codes = torch.zeros(1, 0, dtype=torch.int64)
            for _ in range(model.num_codebooks):
                logits = model.head(hidden[:, -1], codes.to(model.device)).cpu().double()
                code = draw(logits, temperature, top_k, generator)
                codes = torch.cat((codes, code[:, None]), dim=1)
            frames, unread = torch.cat((frames, codes)), codes
    return frames.numpy()


def draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """Draw one code per row of logits ``[B, V]``, int64 ``[B]``; settings as in `sample`.

    Of equal logits at the border of `top_k` all stay.
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        border = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < border, -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]

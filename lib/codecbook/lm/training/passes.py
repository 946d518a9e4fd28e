"""Forward and backward passes of one optimizer step, over micro-batches and processes."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.lm.data.windows import IGNORE, Windows
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.options import TrainOptions, codebook_weights, cross_entropy_nats
from codecbook.tokens.tokens import checked_codes
from codecbook.training.processes import Processes


class Passes:
    """The gradient of each step of a run.

    Windows, and the dropout of each pass, are drawn from (seed, step, pass), so that a step is the same whenever it
    is made, and, but for the rounding of sums, whichever process makes its parts. The model is on its device.
    A batch that does not divide into micro-batches and processes raises UnsupportedInput.
    """

    def __init__(self, model: TokenLM, windows: Windows, options: TrainOptions, processes: Processes) -> None:
        unit = (options.micro_batch_size or 1) * processes.count
        if options.batch_size % unit:
            raise UnsupportedInput(
                f"batch_size={options.batch_size} is no multiple of {unit}, micro-batches times processes; choose one."
            )
        self.model, self.windows, self.options, self.processes = model, windows, options, processes
        self.micro_batch_size = options.micro_batch_size or options.batch_size // processes.count
        weights = codebook_weights(options.codebook_weights, model.num_codebooks, options.codebook_alpha)
        self._weights = weights.to(processes.device)
        on_cuda = processes.device.type == "cuda"
        self._bfloat16 = options.precision == "bfloat16" or (options.precision == "auto" and on_cuda)
        model.gradient_checkpointing = options.gradient_checkpointing
        self._distributed = DistributedDataParallel(model) if processes.count > 1 else None
        module: nn.Module = self._distributed or model
        self._forward = torch.compile(module) if options.compile else module

    def gradients(self, step: int, own_s: float) -> tuple[Tensor, int, float]:
        """Add up the gradients of the step after `step` steps; `own_s` is this process's clock.

        Returns the mean loss without label smoothing, float64 ``[K]``, nats; the number of frames; and the clock of the
        first process. All three are equal in all processes, which therefore decide alike.

        Raises:
            CorruptInput: A code outside its codebook.
            CodecbookError: Memory ran out.
        """
        rank, count = self.processes.rank, self.processes.count
        indices = self.windows.of_step(step, self.options.batch_size, self.options.seed)
        mine = indices.reshape(count, -1, self.micro_batch_size)[rank]
        self.model.train()
        sums = torch.zeros(self.model.num_codebooks + 2, dtype=torch.float64)
        for place, indices in enumerate(mine):
            numbers = np.random.SeedSequence((self.options.seed, step, rank * len(mine) + place))
            torch.manual_seed(int(numbers.generate_state(1, np.uint64)[0] >> 1))
            if self._distributed is not None:
                # gradients are exchanged once per step
                self._distributed.require_backward_grad_sync = place == len(mine) - 1
            try:
                nats, num_frames = self._one_pass(indices, len(mine))
            except (MemoryError, RuntimeError) as error:
                # the CPU allocator has no class of its own
                if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
                    raise CodecbookError(
                        f"Memory ran out in a pass of {self.micro_batch_size} x {self.options.context_frames} frames; "
                        "lower micro_batch_size, or take gradient_checkpointing=True or precision='bfloat16'."
                    ) from error
                raise
            sums[:-2] += nats
            sums[-2] += num_frames
        sums[-1] = own_s if rank == 0 else 0.0
        sums = self.processes.sum(sums)
        return sums[:-2] / sums[-2], int(sums[-2]), float(sums[-1])

    def _one_pass(self, indices: np.ndarray, num_passes: int) -> tuple[Tensor, int]:
        """Go forward and back once; return (sum of the unsmoothed loss, float64 ``[K]``; number of frames)."""
        codes = self.windows.batch(indices)
        filled = (codes == IGNORE).all(axis=-1, keepdims=True)
        # filling stands behind the last frame, where no real frame looks; any code will do
        codes = checked_codes(np.where(filled, 0, codes), self.model.codebook_sizes, "A training window")
        frames, is_real = (torch.from_numpy(part).to(self.processes.device) for part in (codes, ~filled))
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self._forward(frames)
        smoothed, plain = cross_entropy_nats(logits, frames, self.options.label_smoothing)
        # divided by all frames, filling included: so every token weighs the same in whatever micro-batch it is
        mean = (smoothed * is_real).mean(dim=(0, 1))
        ((mean * self._weights).sum() / num_passes).backward()
        return (plain * is_real).sum(dim=(0, 1)).cpu().double(), int(is_real.sum())

    def weighted(self, nats: Tensor) -> float:
        """Return the mean over codebooks, by their weights, of a loss ``[K]``."""
        return float((nats * self._weights.cpu().double()).sum())

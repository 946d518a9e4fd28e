r"""Train the models of the converged reading, and store what the test clips cost (`codecbook.measure.rates.stored`).

    python data/voice/make_costs.py
    python data/voice/make_costs.py --tokens data/tokens \
        --only units_25hz:parallel fsq_50hz:parallel encodec_24khz:parallel

The second is of prompts read by a person. Hours on one core; the same command goes on with an interrupted run, and
writes the costs of all that is finished.
"""

import argparse
import json
import pickle
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from codecbook.files import write_file
from codecbook.lm.exact.export import export_exact
from codecbook.lm.models import TinyGPT
from codecbook.lm.token_lm import TokenLM
from codecbook.lm.training.progress import averaged_model, read_checkpoint
from codecbook.measure.rates.material import indexed_material
from codecbook.measure.rates.sides import Material
from codecbook.measure.rates.stored import Run, write_costs
from codecbook.measure.rates.stream_costs import stream_sizes
from codecbook.measure.rates.streams import Stream
from codecbook.measure.rates.study import CONVERGED, Learned, fewer, learn

FOLDER = Path(__file__).resolve().parent
TEXT_VOCABULARY = 512
CALIBRATION_CLIPS, FILE_CLIPS = 40, 40
NUM_CODEBOOKS = 4


@dataclass(frozen=True)
class Job:
    """One model: of a stream, on a share of the training clips, of a width, in so many passes with such a dropout."""

    stream: str  # codec:order, or text:trained
    share: float = 1.0
    dim: int = CONVERGED.dim
    passes: float = CONVERGED.passes
    dropout: float = CONVERGED.dropout

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.stream.replace(':', '_')}_{self.share:g}_{self.dim}"


SHARES = (0.5, 0.25, 0.125)
DIMS = (64, 256)
# streams with fewer tokens are read more often, with more dropout
WHOLE = (
    Job("text:trained", passes=16, dropout=0.3),
    Job("units_25hz:parallel", passes=20, dropout=0.2),
    Job("fsq_50hz:parallel", passes=10, dropout=0.2),
    Job("encodec_24khz:parallel", passes=8),
    Job("encodec_24khz:flat", passes=9),
)
SCALED = [job for job in WHOLE if job.stream in ("text:trained", "units_25hz:parallel")]
JOBS = (
    *WHOLE,
    *(replace(job, share=share) for job in SCALED for share in SHARES),
    *(replace(job, dim=64) for job in SCALED),
    replace(WHOLE[0], dim=256),
)


def open_stream(specification: str, material: Material) -> Stream:
    """Make a stream of all clips; the vocabulary of text is fitted to all training clips, whatever share is taken."""
    name, _, order = specification.partition(":")
    if name != "text":
        return material.stream(name, order, material.parts.all, NUM_CODEBOOKS)
    return material.text(order, TEXT_VOCABULARY)


def files_of(job: Job, learned: Learned, folder: Path) -> dict[str, tuple[float, float]]:
    """Write the first test clips with the exact coder and the model in integers, and return their sizes in bits."""
    if (job.share, job.dim) != (1.0, CONVERGED.dim) or learned.stream.order not in ("parallel", "grouped"):
        return {}
    done = folder / "files.json"
    if not done.is_file():
        model = averaged_model(read_checkpoint(folder / "best.pt"))
        training = learned.stream.corpus.subset(sorted(set(learned.stream.corpus.clips) - set(learned.clips)))
        exact = export_exact(model, [training.clip(i)[: exact_rows(model)] for i in range(CALIBRATION_CLIPS)])
        test = learned.stream.corpus.subset(learned.clips[:FILE_CLIPS])
        segment_s = exact_rows(model) / test.frame_rate_hz
        sizes = stream_sizes(test, exact, job.name, {}, segment_s)
        found = {row.clip: (row.payload_bits, row.stream_bits) for row in sizes.itertuples()}
        write_file(done, json.dumps(found))
    return {clip: tuple(bits) for clip, bits in json.loads(done.read_text()).items()}


def exact_rows(model: TokenLM) -> int:
    """Return how many rows a model reads at once: rotary positions end with the context."""
    return model.config.context if isinstance(model, TinyGPT) else 1 << 16


def main() -> None:
    """Go through the jobs."""
    parser = argparse.ArgumentParser(description="Train the converged models, and store what the test clips cost.")
    parser.add_argument("--tokens", type=Path, default=FOLDER, help="folder of the token corpora, and of the costs")
    parser.add_argument("--work", type=Path, default=Path("runs/converged"), help="folder for checkpoints")
    parser.add_argument("--only", nargs="+", help="streams")
    options = parser.parse_args()
    torch.set_num_threads(1)
    material = indexed_material(options.tokens)
    durations_s = {clip: row.duration_s for clip, row in material.rows.items()}
    runs = []
    # other corpora take a comparison with speech of another kind, and no scaling
    for job in JOBS if options.tokens == FOLDER else WHOLE:
        done = options.work / options.tokens.resolve().name / job.name / "run.pickle"
        if not done.is_file() and (options.only is None or job.stream in options.only):
            print(f"{time.strftime('%H:%M:%S')} {job}", flush=True)
            recipe = replace(CONVERGED, dim=job.dim, passes=job.passes, dropout=job.dropout)
            parts = fewer(material.parts, job.share, durations_s)
            learned = learn(open_stream(job.stream, material), parts, recipe, done.parent)
            done.write_bytes(pickle.dumps({**vars(learned), "stream": job.stream}))
            figures = {code: round(learned.bits_per_token(code), 3) for code in learned.level_bits}
            print(f"{time.strftime('%H:%M:%S')} {job.name}: {figures}", flush=True)
        if done.is_file():
            stored = pickle.loads(done.read_bytes())  # made by this script
            learned = Learned(**{**stored, "stream": open_stream(job.stream, material)})
            runs.append(Run(learned, job.share, job.dim, job.dropout, files_of(job, learned, done.parent)))
    command = "python data/voice/make_costs.py"
    if options.tokens != FOLDER:
        only = [
            job.stream
            for job in WHOLE
            if job.stream in {f"{run.learned.stream.name}:{run.learned.stream.order}" for run in runs}
        ]
        command += f" --tokens data/{options.tokens.resolve().name} --only {' '.join(only)}"
    about = {
        "command": command,
        "hours": round(sum(run.learned.evaluations[-1].elapsed_s for run in runs) / 3600, 2),
        "recipe": asdict(CONVERGED),
        "text_vocabulary": TEXT_VOCABULARY,
        "num_codebooks": NUM_CODEBOOKS,
    }
    write_costs(options.tokens, runs, material.index, about)


if __name__ == "__main__":
    main()

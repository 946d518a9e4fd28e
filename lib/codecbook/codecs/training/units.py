"""Make units: cluster the features of recordings.

    python -m codecbook.codecs.training.units FOLDER... --out data/models/units_25hz_mini --credit "corpus, licence"

See `codecbook.codecs.adapters.units` for what they are.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from sklearn.cluster import MiniBatchKMeans

from codecbook import audio
from codecbook.audio import Clip
from codecbook.codecs.adapters.units import ARCHITECTURE, NUM_FEATURES, SAMPLE_RATE_HZ, Units, unit_features
from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import UnsupportedInput
from codecbook.files import write_file
from codecbook.models.store import check_save, refuse_existing, save_tensors
from codecbook.recordings import each_usable, find_recordings


def fit_units(clips: Iterable[Clip], num_units: int = 512, seed: int = 0) -> Units:
    """Cluster the features of clips of speech, of any rate and channels; an iterator keeps one in memory at a time.

    Raises UnsupportedInput: `num_units` below 2, or fewer than ten units of 40 ms for each.
    """
    parts = [unit_features(audio.convert(clip, SAMPLE_RATE_HZ, 1).samples[0]) for clip in clips]
    features = np.concatenate(parts) if parts else np.empty((0, NUM_FEATURES))
    if num_units < 2 or len(features) < 10 * num_units:
        raise UnsupportedInput(
            f"{len(features)} stretches of 40 ms for num_units={num_units}; give at least ten for each of two or more."
        )
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.maximum(deviation, 1e-6)
    kmeans = MiniBatchKMeans(num_units, batch_size=4096, n_init=3, random_state=seed)  # type: ignore[arg-type]
    kmeans.fit((features - mean) / deviation)
    centroids = np.asarray(kmeans.cluster_centers_)
    return Units(*(values.astype(np.float32) for values in (centroids, mean, deviation)))


def save_units(folder: Path, units: Units, provenance: dict[str, Any]) -> str:
    """Write units as ``model.safetensors`` and ``config.json`` in place of others; return the tensors' SHA-256."""
    refuse_existing(folder, True, [ARCHITECTURE])
    arguments = {"num_units": len(units.centroids)}
    return save_tensors(folder, units.tensors(), ARCHITECTURE, arguments, provenance)


def _card(units: Units, provenance: dict[str, Any], sha256: str) -> str:
    credits = "\n".join(f"- {credit}" for credit in provenance["credits"])
    return f"""# units_25hz_mini

{len(units.centroids)} k-means clusters of MFCC features, 25 tokens a second, for 16 kHz mono speech.
There is no decoder. See `codecbook.codecs.adapters.units` for the features.

Made by `python -m codecbook.codecs.training.units`, seed {provenance["seed"]}, from {provenance["num_clips"]} clips, \
{provenance["duration_s"] / 60:.0f} minutes:

{credits}

On this data {provenance["units_used"]} of {len(units.centroids)} units are used, with an entropy of \
{provenance["entropy_bits"]:.2f} bits a unit.

SHA-256 of the tensors: `{sha256}`.

Fit for comparisons of token rates on read English speech. Not fit for other languages or music, nor as a
measure of what larger semantic tokenizers achieve.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make units from recordings and write them with a model card."""
    parser = ArgumentParser(prog="python -m codecbook.codecs.training.units", description="Cluster speech into units.")
    parser.add_argument("inputs", nargs="+", help="files, folders, or quoted patterns")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--credit", action="append", required=True, help="corpus and licence, once for each corpus")
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return exit_status(lambda: _make(options), "nothing was written", options)


def _make(options: argparse.Namespace) -> int:
    check_save(options.out, [ARCHITECTURE])
    paths = [recording.path for recording in find_recordings(options.inputs)]
    clips = [clip for _, clip in each_usable(paths, lambda path: audio.load(path, SAMPLE_RATE_HZ, mono=True))]
    units = fit_units(clips, options.units, options.seed)
    codes = np.concatenate([units.assign(unit_features(clip.samples[0])) for clip in clips])
    counts = np.bincount(codes)
    provenance = {
        "credits": options.credit,
        "seed": options.seed,
        "num_clips": len(clips),
        "duration_s": round(sum(clip.duration_s for clip in clips), 1),
        "units_used": int(np.count_nonzero(counts)),
        "entropy_bits": round(float(scipy.stats.entropy(counts, base=2)), 3),
    }
    sha256 = save_units(options.out, units, provenance)
    write_file(options.out / "README.md", _card(units, provenance, sha256), overwrite=True)
    print(f"{options.out}: {len(units.centroids)} units from {provenance['duration_s']} s of speech")
    return 0


if __name__ == "__main__":
    sys.exit(main())

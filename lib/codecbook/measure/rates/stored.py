"""Stored costs of the converged reading: what test clips took by every code, made once and for these tokens alone.

``costs.json`` says of which tokens and codecs, by SHA-256, with which settings, and how long it took; ``costs.parquet``
holds the bits, one row per model, code, clip and level. Both lie in the folder of the token corpora.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codecbook.codecs.corpus.index import TokenIndex
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import read_json, sha256_of, write_file
from codecbook.lm.training.options import Evaluation
from codecbook.measure.rates.bits_per_second import floor_of
from codecbook.measure.rates.streams import TEXT_ORDER, Stream
from codecbook.measure.rates.study import MODEL, ClipParts, Learned, by_level
from codecbook.measure.statistics import Interval, ratio_interval

COSTS_NAME, ABOUT_NAME = "costs.parquet", "costs.json"
_FORMAT = 1
_KEYS = ["stream", "share", "dim"]
_FIGURES = ("trunk_parameters", "row_parameters", "tokens_seen", "passes", "distinct_share", "weights_sha256")


@dataclass(frozen=True, eq=False)
class Run:
    """One model of a reading."""

    learned: Learned
    share: float  # of the training clips' time
    dim: int  # width of the trunk
    dropout: float
    # of some of the test clips, by name: bits of the exact coder's payload and of the stream, by this model in integers
    files: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, float, int]:
        """What tells runs of a reading apart."""
        return self.learned.stream.key, self.share, self.dim


def origin(index: TokenIndex, codec: str) -> dict[str, str]:
    """Return which tokens and weights, or which transcripts for ``"text"``, costs belong to, by SHA-256."""
    if codec == TEXT_ORDER:
        return {"transcripts": sha256_of(index.folder / "transcripts.json")}
    entry = index.entry(codec)
    return {"tokens": entry.sha256, "codec_weights": entry.codec_weights_sha256}


def write_costs(folder: str | Path, runs: Iterable[Run], index: TokenIndex, about: Mapping[str, Any]) -> None:
    """Write the runs of a reading; `about` holds the command and all else that a reader wants to know."""
    rows, described = [], []
    runs = list(runs)
    for run in runs:
        found = run.learned
        for code, bits in found.level_bits.items():
            clips, levels = np.indices(bits.shape).reshape(2, -1)
            rows.append(
                pd.DataFrame(
                    {"stream": found.stream.key, "share": run.share, "dim": run.dim, "code": code,
                     "clip": np.array(found.clips)[clips], "level": levels.astype(np.int8),
                     "bits": bits.ravel().astype(np.float32)}
                )
            )  # fmt: skip
        looks = [dataclasses.asdict(look) for look in found.evaluations]
        described.append(
            {**dict(zip(_KEYS, run.key, strict=True)), **{name: getattr(found, name) for name in _FIGURES},
             "level_sizes": list(found.stream.level_sizes), "tokens": int(found.level_tokens.sum()),
             "dropout": run.dropout, "files": dict(run.files),
             "minutes": looks[-1]["elapsed_s"] / 60, "evaluations": looks}
        )  # fmt: skip
    codecs = {_codec_of(run.learned.stream) for run in runs}
    content = {"format": _FORMAT, **about, "origins": {name: origin(index, name) for name in sorted(codecs)}}
    pd.concat(rows).to_parquet(Path(folder) / COSTS_NAME, compression="zstd")
    content |= {"costs_sha256": sha256_of(Path(folder) / COSTS_NAME), "runs": described}
    write_file(Path(folder) / ABOUT_NAME, json.dumps(content, indent=1) + "\n", overwrite=True)


def read_costs(index: TokenIndex, streams: Iterable[Stream], parts: ClipParts) -> tuple[list[Run], dict[str, Any]]:
    """Read the stored runs of some streams, and what is known of all.

    Raises:
        MissingInput: There are none in the folder of the corpora.
        UnsupportedInput: They belong to other tokens, weights or clips.
        CorruptInput: They are damaged.
    """
    about_path, costs_path = index.folder / ABOUT_NAME, index.folder / COSTS_NAME
    if not (about_path.is_file() and costs_path.is_file()):
        raise MissingInput(f"{index.folder} has no stored costs; make them with {index.folder / 'make_costs.py'}.")
    about = read_json(about_path, dict, "restore it, or make it again")
    if about.get("costs_sha256") != sha256_of(costs_path):
        raise CorruptInput(f"{costs_path} is not the file that {ABOUT_NAME} describes; restore both.")
    by_key = {stream.key: stream for stream in streams}
    for name in {_codec_of(stream) for stream in by_key.values()}:
        if name in about["origins"] and about["origins"][name] != (found := origin(index, name)):
            raise UnsupportedInput(f"Stored costs of {name} are of {about['origins'][name]}, not {found}; remake them.")
    costs = {key: group for key, group in pd.read_parquet(costs_path).groupby(_KEYS)}
    runs = []
    for run in about["runs"]:
        if run["stream"] in by_key:
            found = _learned(by_key[run["stream"]], run, costs[tuple(run[key] for key in _KEYS)], parts)
            runs.append(Run(found, run["share"], run["dim"], run["dropout"], run["files"]))
    return runs, about


def file_rates(run: Run) -> dict[str, float]:
    """Return bits per second of the clips that the exact coder wrote: under the model, as payload, and as a file."""
    place = [run.learned.clips.index(clip) for clip in run.files]
    duration_s = run.learned.durations_s[place].sum()
    payload, stream = np.array(list(run.files.values())).sum(axis=0)
    return {
        "files": len(place),
        "model, bits/s": float(run.learned.level_bits[MODEL][place].sum() / duration_s),
        "payload, bits/s": float(payload / duration_s),
        "file, bits/s": float(stream / duration_s),
    }


def scaling(runs: Sequence[Run]) -> tuple[pd.DataFrame, dict[str, Interval]]:
    """Return how the models' bits per second fall with data and width, and where data alone would take them.

    Returns:
        One row per run: ``stream``, ``share``, ``dim``, ``bits_per_s``, with its interval. And of streams with four
        shares or more at one width, the floor of a fitted curve (`bits_per_second.floor_of`).
    """
    rows = []
    for run in runs:
        bits, seconds = run.learned.level_bits[MODEL].sum(axis=1), run.learned.durations_s
        rate = ratio_interval(bits, seconds).columns("bits_per_s")
        rows.append({"stream": run.learned.stream.label, "share": run.share, "dim": run.dim, **rate})
    by_width: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_width.setdefault((run.learned.stream.label, run.dim), []).append(run)
    floors = {
        label: floor_of(
            [run.share for run in group],
            np.stack([run.learned.level_bits[MODEL].sum(axis=1) for run in group]),
            group[0].learned.durations_s,
        )
        for (label, _), group in by_width.items()
        if len(group) > 3
    }
    return pd.DataFrame(rows), floors


def _codec_of(stream: Stream) -> str:
    return TEXT_ORDER if stream.order == TEXT_ORDER else stream.name


def _learned(stream: Stream, run: Mapping[str, Any], costs: pd.DataFrame, parts: ClipParts) -> Learned:
    test = stream.columns.subset(parts.test)
    if set(costs["clip"]) != set(test.clips):
        raise UnsupportedInput(
            f"{costs['clip'].nunique()} clips have stored costs of {stream.key}, not these {len(test)}; keep the split."
        )
    level_tokens = by_level(stream, test, np.ones((test.num_rows, len(stream.places)))).astype(np.int64)
    if (tuple(run["level_sizes"]), run["tokens"]) != (stream.level_sizes, level_tokens.sum()):
        raise UnsupportedInput(
            f"The stored costs of {stream.key} are of {run['tokens']} tokens of {run['level_sizes']} kinds, and here "
            f"are {level_tokens.sum()} of {list(stream.level_sizes)}; take the vocabulary that they were made with."
        )
    bits = {
        str(code): of_code.pivot(index="clip", columns="level", values="bits")
        .loc[list(test.clips)]
        .to_numpy(np.float64)
        for code, of_code in costs.groupby("code", sort=False)
    }
    looks = (
        Evaluation(**{**look, "bits_per_codebook": tuple(look["bits_per_codebook"])}) for look in run["evaluations"]
    )
    return Learned(
        stream=stream, clips=test.clips, level_bits=bits, level_tokens=level_tokens,
        durations_s=test.clip_durations_s, evaluations=tuple(looks),
        **{name: run[name] for name in _FIGURES},
    )  # fmt: skip

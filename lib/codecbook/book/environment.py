"""What this machine has of what the notebooks want: packages, tools, recordings, weights.

Each function returns a table that `codecbook.book.tables.show` displays and that the index notebook asserts on.
"""

import importlib.util
import os
import shutil
from collections.abc import Sequence

import pandas as pd
import torch
from packaging.version import Version

from codecbook.book.provenance import installed_version
from codecbook.clips import ClipEntry, load_entry
from codecbook.codecs import load_codec
from codecbook.codecs.registry import DOWNLOAD_MB, adapter, codec_names
from codecbook.errors import CodecbookError, MissingWeights
from codecbook.models.hub import checkpoint_path
from codecbook.models.weights import weight_kinds
from codecbook.paths import extra_dir, repository_dir

SHOWN_PACKAGES = (
    "torch", "numpy", "scipy", "soxr", "soundfile", "encodec", "snac", "transformers", "numba", "pyarrow",
    "torchmetrics", "pystoi", "auraloss", "matplotlib", "papermill", "nbconvert", "jupyterlab", "snakemake",
)  # fmt: skip

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def pinned_versions() -> dict[str, str]:
    """Return ``{package: version}`` of ``requirements.lock``, names in lower case."""
    pinned = {}
    for line in (repository_dir() / "requirements.lock").read_text().splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        name, separator, version = requirement.partition("==")
        if separator:
            pinned[name.strip().lower()] = version.strip()
    return pinned


def packages(names: Sequence[str] = SHOWN_PACKAGES) -> pd.DataFrame:
    """Compare installed versions, empty where absent, with the pinned ones; build tags such as ``+cpu`` aside."""
    pinned = pinned_versions()
    rows = []
    for name in names:
        installed, wanted = installed_version(name), pinned.get(name.lower(), "")
        same = bool(installed) and bool(wanted) and Version(installed).public == Version(wanted).public
        rows.append({"package": name, "installed": installed, "pinned": wanted, "as_pinned": same})
    return pd.DataFrame(rows)


def missing_packages(table: pd.DataFrame) -> list[str]:
    """Return the names of those of `packages` that are not installed."""
    return table.loc[table["installed"] == "", "package"].tolist()


def optional_tools() -> pd.DataFrame:
    """List what single sections or tests use (``tool``, ``serves``), whether it is ``here``, and the ``remedy``."""
    modules = {name: importlib.util.find_spec(name) is not None for name in ("pesq", "ai_edge_litert", "visqol")}
    browser = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    synthesisers = all(map(shutil.which, ("flite", "espeak-ng", "fluidsynth")))
    rows = [
        ("pesq", "PESQ among the quality measures", modules["pesq"], "pip install pesq (needs a C compiler)"),
        ("ai-edge-litert", "the codec Lyra V2", modules["ai_edge_litert"], "pip install ai-edge-litert"),
        ("learned measures", "voice, words, opinions", modules["visqol"], "pip install 'codecbook[measures]'"),
        ("Chromium", "browser tests of the reports", browser, "install the Debian package chromium"),
        ("Node.js", "tests of what the reports' pages compute", any(map(shutil.which, ("node", "nodejs"))),
         "install the Debian package nodejs"),
        ("C++ compiler", "torch.compile in the matrix", shutil.which(os.environ.get("CXX", "c++")) is not None,
         "install the Debian package g++"),
        ("flite, espeak-ng, fluidsynth", "remaking the bundled clips", synthesisers,
         "install the Debian packages flite, espeak-ng, fluidsynth, fluid-soundfont-gm"),
        ("CUDA", "longer training, the CUDA column", torch.cuda.is_available(), "none needed: all runs on a CPU"),
        ("MPS", "the MPS column", torch.backends.mps.is_available(), "none needed: all runs on a CPU"),
        ("further recordings", "tests on human speech and real codecs", extra_dir() is not None,
         "set CODECBOOK_EXTRA to their folder"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["tool", "serves", "here", "remedy"])
    table.loc[table["here"], "remedy"] = ""
    return table


def published_weights() -> pd.DataFrame:
    """List the codecs whose authors publish weights, whether they are ``here``, their ``place``, and the ``remedy``.

    What a download is, is said in ``megabytes`` (10^6 bytes, about; 0 where there is none).

    Nothing is fetched or loaded: a file in the caches of torch and of the hub counts as here.
    """
    from huggingface_hub import try_to_load_from_cache

    def kept(name: str) -> str | None:
        module = adapter(name)
        if name not in DOWNLOAD_MB:
            return str(module.published_folder() or "") or None
        if name in getattr(module, "CHECKPOINTS", {}):
            file = checkpoint_path(module.CHECKPOINTS[name])
            return str(file) if file.is_file() else None
        files = (try_to_load_from_cache(module.REPOSITORY, file) for file in _HUB_FILES)
        return next((file for file in files if isinstance(file, str)), None)

    rows = []
    for name in codec_names():
        if "pretrained" not in weight_kinds(name):
            continue
        place, megabytes = kept(name), DOWNLOAD_MB.get(name, 0)
        remedy = f"with a network: codecbook codecs fetch {name}" if megabytes else adapter(name).BY_HAND
        rows.append((name, megabytes, place is not None, place or "not here", "" if place else remedy))
    return pd.DataFrame(rows, columns=["codec", "megabytes", "here", "place", "remedy"])


def clips_by_domain(entries: Sequence[ClipEntry]) -> pd.DataFrame:
    """Count the clips of a catalogue and add up their seconds, by domain."""

    def distinct(values: pd.Series, separator: str = ", ") -> str:
        return separator.join(str(value) for value in sorted(set(values)))

    grouped = pd.DataFrame([vars(entry) for entry in entries]).groupby("domain", sort=True)
    return grouped.agg(
        clips=("licence", "size"),
        duration_s=("duration_s", "sum"),
        sample_rates_hz=("sample_rate_hz", distinct),
        channels=("channels", distinct),
        licences=("licence", lambda values: distinct(values, " ")),
    ).reset_index()


def broken_clips(entries: Sequence[ClipEntry]) -> list[str]:
    """Return why clips of the catalogue cannot be used, and which domain has none; empty where all is well."""
    broken = [f"no clip of {domain}" for domain in ("speech", "music") if domain not in {e.domain for e in entries}]
    for entry in entries:
        try:
            load_entry(entry)
        except CodecbookError as error:
            broken.append(str(error))
    return broken


def codec_table(names: Sequence[str]) -> pd.DataFrame:
    """Load each codec's bundled weights and describe it; without bundled weights, say so."""

    def listed(values: Sequence[float]) -> str:
        return ", ".join(f"{value:g}" for value in dict.fromkeys(values))

    rows = []
    for name in names:
        try:
            codec = load_codec(name)
        except MissingWeights:
            rows.append({"codec": name, "bundled": False, "weights": "none here: take pretrained"})
            continue
        rows.append(
            {"codec": name, "bundled": True, "sample_rate_hz": codec.sample_rate_hz, "channels": codec.channels,
             "codebooks": len(codec.codebook_sizes), "codebook_sizes": listed(codec.codebook_sizes),
             "frame_rates_hz": listed(codec.frame_rates_hz), "bandwidths_kbps": listed(codec.bandwidths_kbps),
             "weights": str(codec.weights)}
        )  # fmt: skip
    columns = ["codec", "bundled", "sample_rate_hz", "channels", "codebooks", "codebook_sizes", "frame_rates_hz",
               "bandwidths_kbps", "weights"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:5], "Int64"))


def free_disk_gb() -> float:
    """Return the free space where reports are written, in gigabytes (10^9 bytes)."""
    return shutil.disk_usage(repository_dir()).free / 1e9

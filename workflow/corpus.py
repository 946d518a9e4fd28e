"""Turn a folder of recordings into packed tokens, and these into a language model: ``./run_all.sh corpus``.

The work is done by the rules of `shards/Snakefile`, a shard a job, here or on a cluster. What is done stays done: the
same command goes on after a kill, and takes up what was added, changed or removed. Audio that is there twice is taken
once, and what cannot be read is left out; ``manifest.csv`` says what became of each recording.
"""

import argparse
import fcntl
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arguments import executor_name, number_of_jobs, refuse_missing_executor
from engine import EXIT_INTERRUPTED, Interrupts, engine_environment, run_engine
from usage import ROOT, Parser

if TYPE_CHECKING:
    import pandas as pd

MAX_SHARDS = 100_000
SHARD_BYTES = 256 << 20  # of recordings; some hours


def main(command_line: list[str] | None = None) -> int:
    """Bring a corpus up to date and return the exit status."""
    parser = _parser()
    options = parser.parse_args(command_line)
    if options.check:
        return 0
    refuse_missing_executor(options.executor)
    from codecbook.errors import CodecbookError
    from codecbook.files import check_folder

    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder; give one with recordings")
    options.folder, options.out = options.folder.resolve(), options.out.resolve()
    if options.weights and Path(options.weights).exists():  # jobs run in another folder
        options.weights = str(Path(options.weights).resolve())
    try:
        check_folder(options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        with Interrupts() as interrupts, (options.out / ".lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                parser.error(f"another run writes into {options.out}; wait until it has ended")
            return _run(options, interrupts, lock)
    except (CodecbookError, OSError) as error:
        parser.error(str(error))


def _parser() -> Parser:
    parser = Parser(prog="./run_all.sh corpus", description=(__doc__ or "").partition(": ")[0], allow_abbrev=False)
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="recordings, searched to the bottom")
    add("--out", metavar="CORPUS", type=Path, required=True, help="folder to write; on a cluster, one that all share")
    add("--codec", help="(default: encodec_24khz)")
    add("--weights", help="bundled, pretrained, random:SEED or a path (default: bundled)")
    add("--codebooks", type=int, help="leading codebooks (default: all)")
    add("--order", help="in which training sees the tokens (default: parallel)")
    add("--shards", type=int, help=f"(default: one for each {SHARD_BYTES >> 20} MB of recordings)")
    add("--train", metavar="OPTIONS", default="", help='train as well: options of "codecbook lm train", in quotes')
    add("--processes", type=number_of_jobs, default=1, help="of training, which share each batch (default: 1)")
    add("--jobs", type=number_of_jobs, help="cores to use (default 2); with --executor, jobs at a time")
    add("--executor", type=executor_name, default="default", help="run on a cluster, with profiles/NAME")
    add("--check", action="store_true", help=argparse.SUPPRESS)  # parse only
    return parser


def _run(options: argparse.Namespace, interrupts: Interrupts, lock: Any) -> int:
    from codecbook.errors import UnsupportedInput
    from codecbook.files import write_file
    from codecbook.recordings import log_left_out, search

    paths, left_out = search(options.folder)
    log_left_out(left_out)
    if not paths:
        raise UnsupportedInput(f"{options.folder} holds no recording that can be read; name the folder that does")
    found = _found(options.folder, paths)
    settings = _settings(options, sum(int(row[2]) for row in found))
    _write_shards(
        options.out / "found", found, [hashlib.sha256(row[0].encode()).hexdigest() for row in found], settings["shards"]
    )
    status = _engine(options, "identities", interrupts, lock)
    manifest = _manifest(options.out, found, settings["shards"])
    if status == 0:
        chosen = manifest[(manifest["identity"] != "") & (manifest["same_as"] == "")]
        of_name = {row[0]: row for row in found}
        rows = [of_name[name] for name in chosen["name"]]
        _write_shards(options.out / "shards", rows, list(chosen["identity"]), settings["shards"])
        status = _engine(options, "all", interrupts, lock)
        manifest = _manifest(options.out, found, settings["shards"])
    path = write_file(options.out / "manifest.csv", manifest.to_csv(index=False), overwrite=True)
    counts = ", ".join(f"{count} {name}" for name, count in manifest["status"].value_counts().items())
    print(f"{len(manifest)} recordings: {counts or 'none'}; see {path}")
    if status == EXIT_INTERRUPTED:
        print("Stopped; the same command goes on from here.")
    elif status:
        print(f"Some jobs failed; see {options.out / 'logs'}. The same command goes on from here.")
    return status


def _found(folder: Path, paths: list[Path]) -> list[tuple[str, str, str, str]]:
    """Return name, path, bytes and time of each recording; a name keeps its suffix, so that none depends on others."""
    from codecbook.paths import path_as_text

    rows = []
    for path in paths:
        stat = path.stat()
        rows.append(
            (path_as_text(path.relative_to(folder)), path_as_text(path), str(stat.st_size), str(stat.st_mtime_ns))
        )
    return rows


def _settings(options: argparse.Namespace, num_bytes: int) -> dict[str, Any]:
    """Return the settings of the corpus: given now, or when it was begun; refuse others than then."""
    from codecbook.codecs.registry import codec_names
    from codecbook.errors import UnsupportedInput, require_one_of
    from codecbook.files import read_json, write_file
    from codecbook.tokens.layout import ORDERS

    path = options.out / "corpus.json"
    settings = {
        "codec": "encodec_24khz", "weights": "bundled", "codebooks": 0, "order": "parallel",
        "shards": max(1, math.ceil(num_bytes / SHARD_BYTES)),
    }  # fmt: skip
    given = {name: value for name in settings if (value := getattr(options, name)) is not None}
    if path.is_file():
        settings = read_json(path, dict, "choose another folder")
        for name, value in given.items():
            if settings.get(name) != value:
                raise UnsupportedInput(
                    f"--{name} {value} is not what {options.out} was begun with ({settings.get(name)}); leave it out, "
                    "or choose another --out"
                )
        return settings
    settings |= given
    require_one_of("codec", settings["codec"], codec_names())
    require_one_of("order", settings["order"], ORDERS)
    if settings["codebooks"] < 0:
        raise UnsupportedInput(
            f"--codebooks {settings['codebooks']} is out of range; choose 1 or more, or leave it out"
        )
    if not 1 <= settings["shards"] <= MAX_SHARDS:
        raise UnsupportedInput(f"--shards {settings['shards']} is out of range; choose 1 to {MAX_SHARDS}")
    write_file(path, json.dumps(settings, indent=2) + "\n")
    return settings


def _write_shards(folder: Path, rows: list[tuple], digests: list[str], count: int) -> None:
    """Write each row into the list of the shard that its digest chooses, and touch no list that stays as it is."""
    import pandas as pd
    from shards.jobs import FOUND

    from codecbook.files import write_file

    shards: list[list[tuple]] = [[] for _ in range(count)]
    for row, digest in zip(rows, digests, strict=True):
        shards[int(digest[:15], 16) % count].append(row)
    for number, members in enumerate(shards):
        path = folder / f"{number:05d}.csv"
        text = pd.DataFrame(members, columns=list(FOUND)).to_csv(index=False)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_file(path, text, overwrite=True)


def _manifest(out: Path, found: list[tuple[str, str, str, str]], count: int) -> "pd.DataFrame":
    """Say what has become of each recording so far; of those with the same audio, the first by name is taken."""
    import pandas as pd
    from shards.jobs import FOUND, IDENTIFIED, TOKENIZED, read_table

    def joined(folder: str, columns: tuple[str, ...]) -> pd.DataFrame:
        paths = [path for path in sorted((out / folder).glob("*.csv")) if int(path.stem) < count]
        tables = [read_table(path) for path in paths]
        return pd.concat([pd.DataFrame(columns=list(columns)), *tables]).drop_duplicates("name", keep="last")

    table = pd.DataFrame(found, columns=list(FOUND)).sort_values("name")
    table = table.merge(joined("identities", IDENTIFIED), on="name", how="left")
    table = table.merge(joined("tokens", TOKENIZED), on="name", how="left", suffixes=("", "_of_codec")).fillna("")
    is_read = table["identity"] != ""
    first = table.groupby("identity")["name"].transform("first")
    table["same_as"] = first.where(is_read & (first != table["name"]), "")
    table["error"] = table["error"].where(table["error"] != "", table["error_of_codec"])
    table["status"] = "pending"
    table.loc[table["tokens"] != "", "status"] = "tokenized"
    table.loc[table["same_as"] != "", "status"] = "duplicate"
    table.loc[table["error"] != "", "status"] = "failed"
    shards = [f"{int(identity[:15], 16) % count:05d}" if identity else "" for identity in table["identity"]]
    columns = [
        "name",
        "status",
        "same_as",
        "error",
        "shard",
        "duration_s",
        "tokens",
        "encode_s",
        "num_bytes",
        "identity",
    ]
    return table.assign(shard=shards).reindex(columns=columns)


def _engine(options: argparse.Namespace, target: str, interrupts: Interrupts, lock: Any) -> int:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "shards" / "Snakefile")]
    command += ["--directory", str(options.out), "--logger", "codecbook", "--nolock", "--keep-going"]
    command += ["--workflow-profile", str(ROOT / "profiles" / options.executor)]
    command += ["--config", f"processes={options.processes}", f"train={json.dumps(options.train)}"]
    if options.jobs:
        command += ["--cores" if options.executor == "default" else "--jobs", str(options.jobs)]
    return run_engine([*command, "--", target], interrupts, cwd=ROOT, env=engine_environment(ROOT), lock=lock)


if __name__ == "__main__":
    sys.exit(main())

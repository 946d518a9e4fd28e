"""What a training run has been given: name, content and side of each clip, in its checkpoints and as ``corpus.csv``.

A run that goes on with other clips is another run, whose evaluations do not compare. So a changed corpus is named and
refused, unless it is taken knowingly; and no clip that a run was trained on is ever held out from it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import write_file
from codecbook.paths import path_as_text

RECORD_NAME = "corpus.csv"
TRAIN, HELD_OUT, TRAINED_BEFORE = "train", "held_out", "trained_before"

Record = list[tuple[str, str, str]]
"""Rows of (name, identity, side); `TRAINED_BEFORE` is a clip that is there no more."""


def corpus_record(train: Iterable[tuple[str, str]], held_out: Iterable[tuple[str, str]]) -> Record:
    """Return the record of clips that are given as pairs of name and identity."""
    sides = ((train, TRAIN), (held_out, HELD_OUT))
    return [(path_as_text(name), identity, side) for clips, side in sides for name, identity in clips]


def continued(
    stored: Any, present: Record | None, changed_corpus: bool, source: Path
) -> tuple[Record | None, str, bool]:
    """Compare the clips that a run goes on with to those that it has had; return the new record, and two verdicts.

    These are what has changed in a few words, and whether other clips are held out. `stored` is what the checkpoint
    `source` holds under ``"corpus"``, None where it is from before there were records; `present` is None where nothing
    is known of the clips that are given now.

    Raises:
        CorruptInput: What is stored is no record.
        UnsupportedInput: The clips are others, and `changed_corpus` is False; or one that was trained on is held out.
    """
    saved = _checked(stored, source)
    if saved is None or present is None:
        return present or saved, "", False
    was, now = ({identity: side for _, identity, side in record} for record in (saved, present))
    names = {identity: name for name, identity, _ in [*saved, *present]}
    spoiled = [names[i] for i in was.keys() & now.keys() if now[i] == HELD_OUT != was[i]]
    if spoiled:
        raise UnsupportedInput(
            f"{source} was trained on clips that are now held out ({_listed(spoiled)}); split as before, or start anew."
        )
    here = {identity for identity, side in was.items() if side != TRAINED_BEFORE}
    differences = {
        "added": now.keys() - here,
        "removed": here - now.keys(),
        "moved to training": {i for i in here & now.keys() if now[i] == TRAIN != was[i]},
    }
    changes = "; ".join(f"{kind}: {_listed(names[i] for i in found)}" for kind, found in differences.items() if found)
    if changes and not changed_corpus:
        raise UnsupportedInput(f"{source} had another corpus ({changes}); take that, or set changed_corpus=True.")
    gone = [(n, i, TRAINED_BEFORE) for n, i, side in saved if i not in now and side != HELD_OUT]
    apart = [{i for i, side in each.items() if side == HELD_OUT} for each in (was, now)]
    return present + gone, changes, apart[0] != apart[1]


def write_record(folder: Path, record: Record) -> Path:
    """Write ``corpus.csv``: name, SHA-256 of the content, side; return its path."""
    text = pd.DataFrame(record, columns=["clip", "sha256", "side"]).to_csv(index=False)
    return write_file(folder / RECORD_NAME, text, overwrite=True)


def _checked(stored: Any, source: Path) -> Record | None:
    if stored is None:
        return None
    sides = (TRAIN, HELD_OUT, TRAINED_BEFORE)
    try:
        return [(str(name), str(identity), sides[sides.index(side)]) for name, identity, side in stored]
    except (TypeError, ValueError) as error:
        raise CorruptInput(f"{source} holds a damaged record of its corpus; use another checkpoint.") from error


def _listed(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more

"""Readers that deserve what the fuzzer says of them; read in a process of its own, which imports this file."""

import os
import time
from pathlib import Path

import numpy as np

from codecbook.errors import CorruptInput
from codecbook.probes.corruption.readers import Reader


def make(folder: Path) -> None:
    (folder / "0").mkdir()
    (folder / "0" / "input").write_bytes(b"good" * 20)


def content(folder: Path) -> bytes:
    return (folder / "input").read_bytes()


def is_good(folder: Path) -> bool:
    return content(folder) == b"good" * 20


def raises(folder: Path) -> None:
    if not is_good(folder):
        raise KeyError("missing")


def speaks_in_lines(folder: Path) -> None:
    if not is_good(folder):
        raise CorruptInput("one\ntwo")


def refuses(folder: Path) -> None:
    if not is_good(folder):
        raise CorruptInput("The file is damaged; copy it again.")


def hangs(folder: Path) -> None:
    while not is_good(folder):
        time.sleep(1)


def dies(folder: Path) -> None:
    if not is_good(folder):
        os._exit(3)


def takes_memory(folder: Path) -> None:
    if not is_good(folder):
        np.ones(1 << 31, dtype=np.uint8)


READERS = {
    "raises": Reader(make, raises),
    "speaks in lines": Reader(make, speaks_in_lines),
    "refuses": Reader(make, refuses),
    "hangs": Reader(make, hangs),
    "dies": Reader(make, dies),
    "takes memory": Reader(make, takes_memory),
    "believes all": Reader(make, content, checked=True, is_wrong=lambda good, found: good != found),
    "promises nothing": Reader(make, content, is_wrong=lambda good, found: good != found),
}

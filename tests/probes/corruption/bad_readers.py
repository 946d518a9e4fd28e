"""Readers that deserve what the fuzzer says of them; read in a process of its own, which imports this file."""

import os
import time
from pathlib import Path
from random import Random

import numpy as np

from codecbook.errors import CorruptInput
from codecbook.probes.corruption.fuzz import Files, Reader


def make(folder: Path) -> None:
    (folder / "0").mkdir()
    (folder / "0" / "input").write_bytes(b"good" * 20)


def alter(files: Files, random: Random) -> tuple[Files, bool]:
    return {"input": random.randbytes(10)}, False


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
    "raises": Reader(make, raises, alter),
    "speaks in lines": Reader(make, speaks_in_lines, alter),
    "refuses": Reader(make, refuses, alter),
    "hangs": Reader(make, hangs, alter),
    "dies": Reader(make, dies, alter),
    "takes memory": Reader(make, takes_memory, alter),
    "believes all": Reader(make, content, alter, checked=True, is_wrong=lambda good, found: good != found),
    "promises nothing": Reader(make, content, alter, is_wrong=lambda good, found: good != found),
}

import os
from pathlib import Path

import pytest

from codecbook.book import inputs
from codecbook.errors import MissingInput, UnsupportedInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "below").mkdir(parents=True)
    for name in ("mine/a.wav", "mine/below/b.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("clips_dir", "mine", "{}/mine"),
        ("clips_dir", "./mine/../mine/", "{}/mine"),
        ("clips_dir", "~/mine", "{}/mine"),
        ("clips_dir", "", ""),
        ("gpt2_file", "mine/a.wav", "{}/mine/a.wav"),
        ("model_path", "mine", "{}/mine"),
        ("weights", "mine", "{}/mine"),
        ("weights", "random:3", "random:3"),
        ("codec", "snac=pretrained", "snac=pretrained"),
        ("codec", "dac=mine", "dac={}/mine"),
        ("streams", "text:mine", "text:mine"),
        ("clips_dir", 3, 3),
    ],
)
def test_paths_become_absolute_and_all_else_stays(folder, monkeypatch, name, value, expected):
    monkeypatch.setenv("HOME", str(folder))
    found = inputs.resolved(name, value, folder)
    assert found == (expected.format(folder) if isinstance(expected, str) else expected)
    assert [path.exists() for path in inputs.named_paths(name, found)] == [True] * ("{}" in str(expected))


@pytest.mark.parametrize(
    ("name", "value", "help_text", "message"),
    [
        ("clips_dir", "none", None, "clips_dir is 'none', which does not exist; give a file or folder that exists"),
        ("clips_dir", "mine/a.wav", "folder of yours", "'mine/a.wav', a file; give a folder that exists"),
        ("gpt2_file", "mine", "", "'mine', a folder; give a file that exists"),
        ("weights", "bundeld", "", "exists, or bundled, pretrained or random; relative paths start in"),
        ("codecs", ["snac", "dac=none"], "", "codecs is 'none', which does not exist"),
        ("clips_dir", "a\0b", "", "cannot be read"),
        ("clips_dir", "~nobody_of_this_name/x", "", "cannot be read"),
        ("clips_dir", "x" * 5000, "", "cannot be read"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(folder, name, value, help_text, message):
    with pytest.raises((MissingInput, UnsupportedInput), match=message):
        inputs.resolved(name, value, folder, help_text=help_text)


def test_a_file_may_stand_for_a_folder_where_the_help_says_so(folder):
    found = inputs.resolved("tokens_dir", "mine/a.wav", folder, help_text="file or folder of tokens")
    assert found == str(folder / "mine/a.wav")


def test_an_inventory_changes_with_names_sizes_and_times_and_with_nothing_else(folder):
    paths = [folder / "mine"]
    seen = {inputs.inventory(paths).digest}
    assert inputs.inventory(paths).digest in seen

    def assert_changed() -> None:
        digest = inputs.inventory(paths).digest
        assert digest not in seen
        seen.add(digest)

    (folder / "mine/below/c.wav").write_bytes(b"RIFF")
    assert_changed()
    (folder / "mine/below/c.wav").write_bytes(b"RIFF and more")
    assert_changed()
    os.utime(folder / "mine/a.wav", ns=(0, 1))
    assert_changed()
    (folder / "mine/a.wav").rename(folder / "mine/d.wav")
    assert_changed()
    (folder / "mine/empty").mkdir()
    assert_changed()
    (folder / "mine/nowhere").symlink_to("none")
    assert_changed()
    (folder / "mine" / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"")
    assert_changed()

    (folder / "mine/.hidden").write_bytes(b"")
    (folder / "mine/below/up").symlink_to(folder / "mine")
    assert inputs.inventory(paths).complete
    (folder / "mine/below/up").unlink()
    assert inputs.inventory(paths).digest in seen
    assert inputs.inventory([]).digest == ""


def test_an_inventory_of_very_many_files_is_bounded(folder):
    for number in range(30):
        (folder / "mine/below" / f"{number}.wav").write_bytes(b"")
    found = inputs.inventory([folder / "mine"], limit=5)
    assert not found.complete
    (folder / "mine/below" / "z.wav").write_bytes(b"")
    assert inputs.inventory([folder / "mine"], limit=5).digest != found.digest, "its folder has changed"


def test_what_a_stage_takes_from_elsewhere(folder, monkeypatch):
    monkeypatch.setenv("CODECBOOK_EXTRA", str(folder))
    values = [("clips_dir", str(folder / "mine")), ("codecs", ["snac", f"dac={folder}/mine/a.wav"]), ("seed", 3)]
    named = [folder / "mine", folder / "mine/a.wav"]
    assert inputs.stage_inputs("print(1)", values) == named
    assert inputs.stage_inputs("extra = extra_dir()", values) == [*named, folder]
    assert inputs.stage_inputs("", [("codecs", ["lyra_v2"])]) == [folder]
    monkeypatch.delenv("CODECBOOK_EXTRA")
    assert inputs.stage_inputs("extra = extra_dir()", values) == named

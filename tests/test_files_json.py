"""JSON from outside: what is no plain, finite, shallow text of the right kind is one error."""

import pytest

from codecbook.errors import CorruptInput
from codecbook.files import MAX_JSON_DEPTH, parse_json, read_json


@pytest.mark.parametrize(
    ("text", "kind", "content"),
    [
        ("{}", dict, {}),
        ('{"a": [1, 2.5, null, true, "é"]}', dict, {"a": [1, 2.5, None, True, "é"]}),
        ("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH, list, None),
        (b'["\\ud83d\\ude00"]', list, ["\U0001f600"]),
    ],
)
def test_plain_text_is_read(text, kind, content, tmp_path) -> None:
    parsed = parse_json(text, kind, "it", "give another")
    assert content is None or parsed == content
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_json(path, kind, "give another") == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON text"),
        ("{", "no JSON text"),
        ('{"a": 1} x', "no JSON text"),
        (b"\xff{}", "no JSON text"),
        (b"\xef\xbb\xbf{}", "no JSON text"),
        ("null", "no JSON object, but null"),
        ("[]", r"no JSON object, but \[\]"),
        ("5", "no JSON object, but 5"),
        (f'"{"long " * 99}"', r'no JSON object, but "long long long long\.\.\.'),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": [-Infinity]}', "-Infinity is no number"),
        ('{"a": 1e999}', "a number is too large"),
        ('{"a": {"b": [-1e999]}}', "a number is too large"),
        (f'{{"a": {"9" * 5000}}}', "no JSON text"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        (f'{{"a": {"[" * MAX_JSON_DEPTH}{"]" * MAX_JSON_DEPTH}}}', "nested more than 64 deep"),
        (f'{{"a": {"[" * 500}{"]" * 500}}}', "nested"),
        (f'{{"a": {"[" * 100_000}{"]" * 100_000}}}', "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"a": "{"x" * 2000}"}}', "longer than 1000 bytes"),
    ],
)
def test_anything_else_is_one_line(text, message, tmp_path) -> None:
    limit = 1000 if "longer" in message else 1 << 20
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (
        lambda: parse_json(text, dict, "it", "give another", limit),
        lambda: read_json(path, dict, "give another", limit),
    ):
        with pytest.raises(CorruptInput, match=message) as caught:
            read()
        assert str(caught.value).endswith("; give another.")
        assert "\n" not in str(caught.value)


def test_a_file_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(CorruptInput, match="longer than 1000 bytes"):
        read_json("/dev/zero", dict, "give another", 1000)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_json("nowhere.json", dict, "give another")


def test_numbers_that_are_none_pass_where_they_are_a_finding(tmp_path) -> None:
    text = '{"a": [NaN, 1e999, -Infinity]}'
    parsed = parse_json(text, dict, "it", "give another", finite=False)
    assert str(parsed) == "{'a': [nan, inf, -inf]}"

"""The README of a folder of token corpora, made from its index."""

from collections.abc import Mapping

from codecbook.codecs.corpus.index import INDEX_NAME, SPLITS, Source, TokenIndex


def readme(sources: Mapping[str, Source], index: TokenIndex) -> str:
    """Return Markdown that says what the corpora hold, from where, and how to make them again."""
    rows = list(index.clips.values())
    used = [source for name, source in sources.items() if any(row.source == name for row in rows)]
    folders = " ".join(f"{source.name}=FOLDER" for source in used)
    return f"""# Tokens of the bundled codecs

Codes of recordings, as the small codecs in `data/models` make them: what the language models in `data/models` were
trained on, and what the notebooks train on. They hold no audio; decoded, they sound as the small codecs do.

{_codec_table(index)}

`python -c "from codecbook.lm.data.corpora import bundled_tokens; print(bundled_tokens('encodec_24khz').train)"`
opens one.

## Recordings

| source | what | licence | by | train | held out |
|---|---|---|---|---|---|
{_source_table(used, index)}

`clips.csv` names each clip's source, speaker and side of the split. Held out is one in N of a source (and what
`sources.json` names beside); where a source has several speakers, none is on both sides. A clip that `clips.csv`
lists stays on its side when the command is run again, and a new one goes where its content or speaker puts it. The
codecs were trained on the other side of the same split, so held-out clips are new to codec and language model alike.
Not every corpus has every source: EnCodec 48 kHz leaves LibriSpeech out, the speech units leave music out.

## Made by

```
python -m codecbook.codecs.corpus --out data/tokens {folders}
```

`sources.json` is written by hand, all else by this command. `{INDEX_NAME}` records which weights made the tokens; a
test holds them against `data/models`, and after a codec has been trained again the command is to be run again.
"""


_COLUMNS = (
    "codec", "file", "codebooks", "clips", "minutes", "tokens", "bytes", "of raw size", "SHA-256 of the file",
    "SHA-256 of the codec's tensors",
)  # fmt: skip


def _codec_table(index: TokenIndex) -> str:
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"
    return head + "\n".join(
        f"| {name} ({entry.codec_weights}) | `{entry.file}` | {entry.num_codebooks} | {entry.clips} | "
        f"{entry.duration_s / 60:.1f} | {entry.tokens:,} | {entry.num_bytes:,} | "
        f"{100 * 8 * entry.num_bytes / entry.raw_bits:.0f} % | `{entry.sha256}` | `{entry.codec_weights_sha256}` |"
        for name, entry in index.corpora.items()
    )


def _source_table(sources: list[Source], index: TokenIndex) -> str:
    def side(source: Source, split: str) -> str:
        rows = [r for r in index.clips.values() if r.source == source.name and r.split == split]
        return f"{len(rows)} clips, {sum(row.duration_s for row in rows) / 60:.1f} min"

    return "\n".join(
        f"| {source.name} | {source.title} | {source.licence} | {source.credit} | "
        f"{' | '.join(side(source, split) for split in SPLITS)} |"
        for source in sources
    )

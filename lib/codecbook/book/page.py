"""What reports and the index page share: the content policy and the assets."""

from pathlib import Path

# data: and blob: stay on the page; script and style are inline because the page is one file
CONTENT_POLICY = (
    "default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)


def asset(name: str) -> str:
    """Return the text of a file in the package's ``assets`` folder."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")

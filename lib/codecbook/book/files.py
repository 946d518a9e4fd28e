"""Writing files that others may be reading."""

import tempfile
from pathlib import Path


def write_in_one_step(text: str, path: Path) -> Path:
    """Write text to `path`, whose folder is made; a reader sees the old file or the new one, never half of it.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
    ) as part:
        part.write(text)
    Path(part.name).chmod(0o644)  # temporary files are private, reports are not
    Path(part.name).replace(path)
    return path

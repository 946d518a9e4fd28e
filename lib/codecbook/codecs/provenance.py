"""`Weights`: where a model's weights are from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are from; printed in every table and figure that used them.

    Attributes:
        kind: ``"bundled"`` (trained by this project's own code), ``"pretrained"`` or ``"random"``.
        source: File, hub repository or seed.
        sha256: SHA-256 over the parameters, hex; equal weights have equal hashes whatever file they came from.
    """

    kind: str
    source: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.source}"

"""``.ecdc``: EnCodec's file format, read and written in all its versions.

- raw: codes as they are (``lm`` false; with the keys of pull request 95, ``acv`` 0);
- upstream: a language model and the arithmetic coder of package ``encodec`` 0.1.1 (no ``acv``; the pull request calls
  it 1 and 2);
- ``acv`` 4 of encodec's pull request 95, in two dialects: logits rounded to a grid, a checksum for each segment.
  ``acv`` 3, the same in one piece, is read.

Raw streams hold their codes exactly. With a language model these depend on its last bits: on the processor, the number
of threads, the build of torch. Since wrong codes raise nothing by themselves, each segment is checked at its end
(`codecbook.coding.ecdc.lm.decode_steps`). `read_ecdc_codes` and `write_ecdc_codes` need no codec, `outline_ecdc` no
model at all::

    data = write_ecdc(model, clip, lm, acv=4)
    decoded = read_ecdc(data, model, lm)  # .clip, .tokens, .damage
"""

from codecbook.coding.ecdc.header import EcdcHeader, read_ecdc_header
from codecbook.coding.ecdc.lm import load_upstream_lm, upstream_lm
from codecbook.coding.ecdc.read import DamagedSegment, DecodedClip, DecodedCodes, read_ecdc, read_ecdc_codes
from codecbook.coding.ecdc.segments import EcdcOutline, outline_ecdc
from codecbook.coding.ecdc.write import write_ecdc, write_ecdc_codes

__all__ = [
    "DamagedSegment", "DecodedClip", "DecodedCodes", "EcdcHeader", "EcdcOutline", "load_upstream_lm", "outline_ecdc",
    "read_ecdc", "read_ecdc_codes", "read_ecdc_header", "upstream_lm", "write_ecdc", "write_ecdc_codes",
]  # fmt: skip

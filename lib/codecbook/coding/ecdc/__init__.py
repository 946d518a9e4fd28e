"""``.ecdc``: EnCodec's file format, read and written in all its versions.

- raw: codes as they are (``lm`` false; with the keys of pull request 95, ``acv`` 0);
- upstream: a language model and the arithmetic coder of package ``encodec`` 0.1.1 (no ``acv``; it is what the pull
  request calls 1 and 2);
- ``acv`` 4 of encodec's pull request 95, in two dialects: logits rounded to a grid, a checksum for each segment.
  ``acv`` 3, the same in one piece, is read.

The codes inside are exact everywhere for raw streams. With a language model they depend on its last bits: on the
processor, the number of threads, the build of torch. Whether a stream was decoded as it was encoded is checked at
the end of each segment (`codecbook.coding.ecdc.lm.decode_steps`), since wrong codes raise nothing by themselves.

    data = write_ecdc(model, clip, lm, acv=4)
    decoded = read_ecdc(data, model, lm)
    decoded.clip, decoded.tokens, decoded.damage

`read_ecdc_codes` and `write_ecdc_codes` do the same with codes alone, without the codec; `outline_ecdc` makes the
checks that need no model. ``header`` has the header, ``segments`` what follows from it, ``lm`` the coding of tokens
alone, ``models`` the language models, ``damage`` measurements.
"""

from codecbook.coding.ecdc.header import EcdcHeader, read_ecdc_header
from codecbook.coding.ecdc.models import load_upstream_lm, upstream_lm
from codecbook.coding.ecdc.read import DamagedSegment, DecodedClip, DecodedCodes, read_ecdc, read_ecdc_codes
from codecbook.coding.ecdc.segments import EcdcOutline, outline_ecdc
from codecbook.coding.ecdc.write import write_ecdc, write_ecdc_codes

__all__ = [
    "DamagedSegment", "DecodedClip", "DecodedCodes", "EcdcHeader", "EcdcOutline", "load_upstream_lm", "outline_ecdc",
    "read_ecdc", "read_ecdc_codes", "read_ecdc_header", "upstream_lm", "write_ecdc", "write_ecdc_codes",
]  # fmt: skip

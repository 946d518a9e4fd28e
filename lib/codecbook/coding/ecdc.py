"""``.ecdc``: EnCodec's file format, read and written in all its versions.

- raw: codes as they are (``lm`` false; with the keys of pull request 95, ``acv`` 0);
- upstream: a language model and the arithmetic coder of package ``encodec`` 0.1.1 (no ``acv``; it is what the pull
  request calls 1 and 2);
- ``acv`` 4 of encodec's pull request 95, in two dialects: logits rounded to a grid, a checksum for each segment.
  ``acv`` 3, the same in one piece, is read.

The codes inside are exact everywhere for raw streams. With a language model they depend on its last bits: on the
processor, the number of threads, the build of torch. Whether a stream was decoded as it was encoded is checked at
the end of each segment (`codecbook.coding.ecdc_lm.decode_tokens`), since wrong codes raise nothing by themselves.

    data = write_ecdc(model, clip, lm, acv=4)
    decoded = read_ecdc(data, model, lm)
    decoded.clip, decoded.tokens, decoded.damage

`codecbook.coding.ecdc_header` has the header, `ecdc_raw` and `ecdc_lm` the coding of tokens alone, `ecdc_models` the
language models, `ecdc_eval` measurements.
"""

from codecbook.coding.ecdc_header import EcdcHeader, build_header, dialect_of, parse_header
from codecbook.coding.ecdc_lm import (
    CodedStep,
    DecodedTokens,
    StepHook,
    decode_tokens,
    encode_tokens,
)
from codecbook.coding.ecdc_models import build_lm, load_lm
from codecbook.coding.ecdc_read import DamagedSegment, Decoded, read_ecdc
from codecbook.coding.ecdc_segments import chunks_of
from codecbook.coding.ecdc_stepper import PackageStepper
from codecbook.coding.ecdc_write import write_ecdc

__all__ = [
    "CodedStep",
    "DamagedSegment",
    "Decoded",
    "DecodedTokens",
    "EcdcHeader",
    "PackageStepper",
    "StepHook",
    "build_header",
    "build_lm",
    "chunks_of",
    "decode_tokens",
    "dialect_of",
    "encode_tokens",
    "load_lm",
    "parse_header",
    "read_ecdc",
    "write_ecdc",
]

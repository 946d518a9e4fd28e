"""Neural audio codec tokens: what they cost, whether they decode elsewhere, what damage does to them.

Glossary. One name per thing, in code, tables and prose:

=====================  ==========================================================================
``B, C, S``            batch, channel and sample axes of a waveform
``K, T, V``            codebook, frame and code axes of tokens; ``V`` is a codebook's size
clip                   a waveform with its sampling rate, float32 ``[C, S]``, full scale = 1.0
codes, tokens          indices into codebooks, int64; ``Tokens`` keeps them with their frame rates
codebook               one table of ``V`` vectors; codebook 0 is the coarsest
frame                  the codes of all codebooks at one instant (where their rates agree)
frame rate             codes per second of one codebook, in Hz
bandwidth              nominal bitrate of the raw codes, in kbps (1 kbps = 1000 bit/s)
segment                a stretch of audio that is encoded and decoded on its own
``sample_rate_hz``     samples per second and channel
information            in bits, never nats, outside of a training loss
=====================  ==========================================================================

Rooms, from the bottom up; a room imports only from those before it: ``errors``, ``command_line``, ``paths``,
``files``, ``lazy``, ``compiled``, ``audio_files``, ``audio``, ``recordings``, ``clips``,
``tokens``, ``models``, ``training``, ``codecs``, ``lm``, ``coding``, ``measure``, ``probes``, ``book``.
"""

import itertools
import sys

__version__ = "0.1.0"

# ``python -m codecbook.x`` would look for every module in the current folder first, where an html.py may lie; while the
# module is being located, "-m" stands in argv for its name
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    _module = dict(itertools.pairwise(sys.orig_argv)).get("-m", "")
    if _module.partition(".")[0] == "codecbook":
        del sys.path[0]

"""Opus (RFC 6716) as a reference, by a libopus of this machine: packets of a clip, and what is heard of those received.

Version 1.5 brought concealment by a neural network (deep PLC), which its decoder does from complexity 5 on, and deep
redundancy (DRED: packets that describe up to a second of the past again). Both are options of its build: Debian 13 has
deep PLC in its package ``libopus0``, and ``tools/build_opus.py`` builds a library with both. Source: Valin et al.,
"Low-bitrate redundancy coding of speech using a rate-distortion-optimized variational autoencoder", ICASSP 2023
(arXiv 2212.04453); for the calls, ``opus.h`` and ``opus_demo.c`` of version 1.5.2.
"""

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecbook.audio import Clip
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput

DEEP_PLC_COMPLEXITY = 5
"""The decoder's complexity from which on it conceals by a network; from 6 on a network may enhance speech, too."""

# opus_defines.h
_VOIP = 2048
_BITRATE, _COMPLEXITY, _LOSS_PERCENT, _GET_LOOKAHEAD, _DRED_FRAMES = 4002, 4010, 4014, 4027, 4050
_INVALID_PACKET, _MAX_PACKET_BYTES = -4, 1500
_WAIT_PACKETS = 3  # after a lost one, for the DRED of the next that arrives


@dataclass(frozen=True)
class OpusPackets:
    """A clip as packets of Opus."""

    packets: tuple[bytes, ...]
    packet_ms: int
    sample_rate_hz: int
    num_samples: int  # of the clip, per channel
    delay_samples: int  # by which the decoder is late

    @property
    def frame_samples(self) -> int:
        """Samples in a packet."""
        return self.sample_rate_hz * self.packet_ms // 1000


class Opus:
    """A libopus.

    Attributes:
        version: What the library says of itself.
        deep_plc: Whether its decoder conceals by a network.
        dred: Whether it has deep redundancy.
    """

    def __init__(self, path: str | Path = "") -> None:
        """Load a library: a file, or the one that the system finds by the name ``opus``.

        Raises:
            MissingInput: There is none.
            UnsupportedInput: The file is no libopus.
        """
        found = str(path) or ctypes.util.find_library("opus")
        if not found or (path and not Path(path).is_file()):
            raise MissingInput(f"There is no libopus {f'at {path}' if path else 'here'}; install libopus0, or name it.")
        try:
            self._calls = ctypes.CDLL(found)
            self._calls.opus_get_version_string.restype = ctypes.c_char_p
            self.version = self._calls.opus_get_version_string().decode()
        except (OSError, AttributeError) as error:
            raise UnsupportedInput(f"{found} cannot be used as a libopus ({error}); name another file.") from error
        # by what they do, as the version does not say how the library was built
        with self._state("encoder", 48000, 1, _VOIP) as state:
            self.dred = self._calls.opus_encoder_ctl(state, _DRED_FRAMES, ctypes.c_int32(5)) == 0
        self.deep_plc = self._conceals_by_network()

    def encode(
        self, clip: Clip, bitrate_kbps: float, packet_ms: int = 40, *, loss_percent: int = 0, dred_ms: int = 0
    ) -> OpusPackets:
        """Encode a mono clip as speech, at full complexity and variable rate.

        Args:
            clip: At 8, 12, 16, 24 or 48 kHz; its end is filled up with silence.
            bitrate_kbps: What the encoder aims at, redundancy included, from 0.5 to 512.
            packet_ms: 10, 20, 40 or 60.
            loss_percent: The loss that the encoder prepares for, 0 to 100; without it there is no redundancy.
            dred_ms: How much of the past packets describe again by DRED at most, where the bitrate allows.

        Raises UnsupportedInput: another rate, number of channels or setting, or DRED that the library lacks.
        """
        if clip.num_channels != 1:
            raise UnsupportedInput(f"Clip {clip.name!r} has {clip.num_channels} channels; mix it down to one.")
        if dred_ms and not self.dred:
            raise UnsupportedInput(f"{self.version} was built without DRED; see tools/build_opus.py.")
        frame = clip.sample_rate_hz * packet_ms // 1000
        with self._state("encoder", clip.sample_rate_hz, 1, _VOIP) as state:
            settings = {_BITRATE: round(1000 * bitrate_kbps), _COMPLEXITY: 10, _LOSS_PERCENT: loss_percent}
            settings |= {_DRED_FRAMES: dred_ms // 10} if dred_ms else {}
            for request, value in settings.items():
                self._checked(self._calls.opus_encoder_ctl(state, request, ctypes.c_int32(value)))
            delay = ctypes.c_int32()
            self._checked(self._calls.opus_encoder_ctl(state, _GET_LOOKAHEAD, ctypes.byref(delay)))
            count = -(-(clip.num_samples + delay.value) // frame)
            samples = np.zeros((count, frame), dtype=np.float32)
            samples.ravel()[: clip.num_samples] = clip.samples[0]
            buffer = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
            packets = []
            for part in samples:
                length = self._calls.opus_encode_float(state, _floats(part), frame, buffer, _MAX_PACKET_BYTES)
                packets.append(buffer.raw[: self._checked(length)])
        return OpusPackets(tuple(packets), packet_ms, clip.sample_rate_hz, clip.num_samples, delay.value)

    def decode(self, coded: OpusPackets, lost: np.ndarray, *, complexity: int = 10, dred: bool = False) -> Clip:
        """Decode what arrived of a clip's packets, and have the decoder conceal the rest.

        Args:
            coded: All packets of the clip.
            lost: Which of them were lost, bool ``[P]``.
            complexity: From `DEEP_PLC_COMPLEXITY` on it conceals by a network, where the library has one.
            dred: Whether to take a lost packet from the next one of three that arrives, by its DRED.

        Raises CorruptInput: a packet that is not one of Opus.
        """
        calls, frame, rate_hz, unused = self._calls, coded.frame_samples, coded.sample_rate_hz, ctypes.c_int32()
        out = np.zeros((len(coded.packets), frame), dtype=np.float32)
        with ExitStack() as stack:
            state = stack.enter_context(self._state("decoder", rate_hz, 1))
            calls.opus_decoder_ctl(state, _COMPLEXITY, ctypes.c_int32(complexity))  # older ones have none, and say so
            if dred:
                parser, past = (stack.enter_context(self._state(kind)) for kind in ("dred_decoder", "dred"))
            for i, part in enumerate(map(_floats, out)):
                near = range(i, min(len(out), i + 1 + _WAIT_PACKETS))
                later = next((j for j in near if not lost[j]), i)
                packet, length, before = coded.packets[later], len(coded.packets[later]), (later - i) * frame
                if not lost[i]:
                    got = calls.opus_decode_float(state, packet, length, part, frame, 0)
                elif dred and before and self._checked(
                    calls.opus_dred_parse(parser, past, packet, length, before, rate_hz, ctypes.byref(unused), 0)
                ):  # fmt: skip
                    got = calls.opus_decoder_dred_decode_float(state, past, before, part, frame)
                else:
                    got = calls.opus_decode_float(state, None, 0, part, frame, 0)
                self._checked(got, frame)
        samples = out.ravel()[coded.delay_samples :][: coded.num_samples]
        return Clip(samples[None].copy(), rate_hz, name="opus")

    @contextmanager
    def _state(self, kind: str, *arguments: int) -> Iterator[Any]:
        """Make an encoder, a decoder or the like, and free it in the end."""
        # of one kind the library has no encoder or decoder: what a packet's DRED is read into
        verbs = ("alloc", "free") if kind == "dred" else ("create", "destroy")
        make, end = (self._calls[f"opus_{kind}_{verb}"] for verb in verbs)
        make.restype, error = ctypes.c_void_p, ctypes.c_int()
        state = ctypes.c_void_p(make(*arguments, ctypes.byref(error)))
        self._checked(error.value)
        try:
            yield state
        finally:
            end(state)

    def _checked(self, returned: int, expected: int | None = None) -> int:
        """Return what a call returned, unless that is an error, or another number of samples than expected."""
        if returned == _INVALID_PACKET or expected not in (None, returned):
            raise CorruptInput(f"{self.version} finds a packet that is not one of Opus, or not of this length.")
        if returned < 0:
            raise UnsupportedInput(f"{self.version} refuses rate, length or setting (error {returned}); see `encode`.")
        return returned

    def _conceals_by_network(self) -> bool:
        """Say whether the decoder's complexity changes what it makes of a lost packet."""
        tone = np.sin(np.arange(4800) * 0.05) * np.sin(np.arange(4800) * 0.002)
        coded = self.encode(Clip(tone.astype(np.float32)[None], 24000), 24.0, 20)
        lost = np.arange(len(coded.packets)) == 5
        plain, deep = (self.decode(coded, lost, complexity=c).samples for c in (0, DEEP_PLC_COMPLEXITY))
        return not np.array_equal(plain, deep)


def _floats(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

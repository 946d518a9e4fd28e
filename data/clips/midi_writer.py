"""Write Standard MIDI Files (format 1) from parts in a compact text notation.

A part's notation is a row of tokens separated by white space:

- ``C4/1`` a note of one beat, ``F#3/.5`` of half a beat; without a length, as long as the one before
- ``C4+E4+G4/2`` a chord, ``-/1`` a rest
- ``!96`` sets the velocity of what follows; ``~60`` sets the expression (controller 11), for swells
- ``|`` is a bar line for the eye, and means nothing

In a percussion part pitches are the names of `DRUMS`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

TICKS_PER_BEAT = 480
PERCUSSION_CHANNEL = 9
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
DRUMS = {
    "kick": 36, "stick": 37, "snare": 38, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "low": 45, "mid": 47,
    "high": 50, "crash": 49, "ride": 51, "tamb": 54, "cow": 56, "bongo": 60, "conga": 63, "mute": 62, "shaker": 70,
    "claves": 75, "tri": 81,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One instrument's line.

    Attributes:
        instrument: Its name, for the catalogue.
        program: General MIDI program, 0 to 127; ignored for percussion.
        notation: What it plays, in the notation of this module.
        volume: Controller 7, 0 to 127.
        pan: Controller 10: 0 left, 64 centre, 127 right.
        percussion: Whether it plays on the percussion channel.
        gate: Fraction of its written length that a note sounds.
    """

    instrument: str
    program: int
    notation: str
    volume: int = 100
    pan: int = 64
    percussion: bool = False
    gate: Fraction = Fraction(19, 20)


def pitch_number(name: str) -> int:
    """Return the MIDI number of a pitch such as ``F#3`` or ``Bb5`` (``C4`` is 60), or of a drum."""
    if name in DRUMS:
        return DRUMS[name]
    match = re.fullmatch(r"([A-G])([#b]?)(-?\d)", name)
    if match is None:
        raise ValueError(f"{name!r} is neither a pitch such as F#3 nor one of {', '.join(DRUMS)}.")
    letter, accidental, octave = match.groups()
    return 12 * (int(octave) + 1) + _SEMITONES[letter] + {"": 0, "#": 1, "b": -1}[accidental]


def variable_length(value: int) -> bytes:
    """Return a MIDI variable-length quantity: 7 bits a byte, most significant first, high bit on all but the last."""
    septets = [value & 0x7F]
    while value := value >> 7:
        septets.append(0x80 | value & 0x7F)
    return bytes(reversed(septets))


def part_events(part: Part, channel: int) -> list[tuple[int, int, bytes]]:
    """Return a part's events as ``(tick, rank, message)``; at equal ticks lower ranks go first."""
    events = [(0, 0, bytes([0xB0 | channel, 7, part.volume])), (0, 0, bytes([0xB0 | channel, 10, part.pan]))]
    if not part.percussion:
        events.append((0, 0, bytes([0xC0 | channel, part.program])))
    beat, beats, velocity = Fraction(0), Fraction(1), 80
    for token in part.notation.replace("|", " ").split():
        tick = int(beat * TICKS_PER_BEAT)
        if token[0] == "!":
            velocity = int(token[1:])
        elif token[0] == "~":
            events.append((tick, 1, bytes([0xB0 | channel, 11, int(token[1:])])))
        else:
            pitches, _, written = token.partition("/")
            beats = Fraction(written) if written else beats
            off = int((beat + beats * part.gate) * TICKS_PER_BEAT)
            for pitch in () if pitches == "-" else map(pitch_number, pitches.split("+")):
                events.append((tick, 2, bytes([0x90 | channel, pitch, velocity])))
                events.append((off, 1, bytes([0x80 | channel, pitch, 0])))
            beat += beats
    return events


def track(events: list[tuple[int, int, bytes]], end_tick: int) -> bytes:
    """Return a track chunk with the events in the order of time, ended at `end_tick` or after the last event."""
    body, now = bytearray(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        body += variable_length(tick - now) + message
        now = tick
    body += variable_length(max(0, end_tick - now)) + b"\xff\x2f\x00"
    return b"MTrk" + len(body).to_bytes(4, "big") + bytes(body)


def midi_file(parts: tuple[Part, ...], tempo_bpm: float, beats: Fraction) -> bytes:
    """Return the bytes of a MIDI file that lasts `beats` at `tempo_bpm`; pitched parts take channels 0 to 8."""
    end_tick = int(beats * TICKS_PER_BEAT)
    microseconds_per_beat = round(60e6 / tempo_bpm)
    tracks = [track([(0, 0, b"\xff\x51\x03" + microseconds_per_beat.to_bytes(3, "big"))], end_tick)]
    channel = 0
    for part in parts:
        tracks.append(track(part_events(part, PERCUSSION_CHANNEL if part.percussion else channel), end_tick))
        channel += not part.percussion
    header = (1).to_bytes(2, "big") + len(tracks).to_bytes(2, "big") + TICKS_PER_BEAT.to_bytes(2, "big")
    return b"MThd" + (6).to_bytes(4, "big") + header + b"".join(tracks)

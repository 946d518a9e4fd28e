"""The music clips: original scores, in the notation of `midi_writer`."""

from dataclasses import dataclass
from fractions import Fraction

from midi_writer import Part


@dataclass(frozen=True)
class Score:
    """One music clip.

    Attributes:
        name: Stem of the clip's file.
        tempo_bpm: Beats per minute.
        duration_s: Duration of the clip; the last quarter of a second is faded out.
        loudness_lufs: Loudness of the clip in LUFS.
        parts: What is played.
    """

    name: str
    tempo_bpm: float
    duration_s: float
    loudness_lufs: float
    parts: tuple[Part, ...]


PIANO = Score(
    "music_01_piano",
    88.0,
    8.0,
    -22.0,
    (
        Part(
            "acoustic grand piano",
            0,
            """
            !58 D4/.25 A4 D5 F5 !64 E5/.5 D5/.25 C5 | !70 Bb4 D5 F5 A5 !78 G5/.75 F5/.25 !84 E5 C#5 A4 E5
            !92 A5 G5 E5 C#5 | !100 D5+F5+A5+D6/1 !60 D5/.5 A4 !48 F4/.25 A4 D5 E5 !42 F5/2
            """,
            gate=Fraction(1),
        ),
        Part(
            "acoustic grand piano",
            0,
            """
            !52 D3/1 A2+D3 | !60 Bb2 G2+D3 | !72 A2 A2+E3 | !84 D2+D3/2 | !44 D3+A3/1 D2+A2/2
            """,
            gate=Fraction(1),
        ),
    ),
)

STRINGS = Score(
    "music_02_string_trio",
    66.0,
    9.0,
    -21.0,
    (
        Part(
            "violin",
            40,
            """
            !80 ~50 G4/1 ~62 B4/.5 ~74 D5 ~88 E5/1 ~104 F#5 | ~112 G5/1.5 ~96 F#5/.25 E5 ~84 D5/1 ~92
            C5/.5 B4 ~72 A4/1 ~50 G4/2
            """,
            pan=34,
            gate=Fraction(1),
        ),
        Part(
            "viola",
            41,
            """
            !78 ~48 D4/1 ~58 G4 ~76 C4 ~96 D4/.5 A4 | ~108 B4/1.5 A4/.5 ~80 G4/1 ~88 E4 ~70 F#4 ~48 D4/2
            """,
            pan=70,
            gate=Fraction(1),
        ),
        Part(
            "cello",
            42,
            """
            !84 ~54 G2/2 ~72 C3/1 ~94 D3 | ~110 E3 ~98 C3 ~82 B2 ~88 C3 ~74 D3 ~52 G2/2
            """,
            pan=96,
            gate=Fraction(1),
        ),
    ),
)

GUITAR = Score(
    "music_03_nylon_guitar",
    112.0,
    7.0,
    -23.0,
    (
        Part(
            "nylon guitar",
            24,
            """
            !88 E2/.5 !66 B3 E4 G4 !76 B4 !62 G4 | !86 C3 !64 G3 C4 E4 !80 C5 !62 E4 !86 A2 !64 E3 A3 C4
            !82 E5 !64 C4 | !92 B2 !70 F#3 A3 D#4 !88 F#5/.25 G5 F#5 D#5 | !96 E2+B2+E3+G3+B3+E4/2
            """,
            gate=Fraction(3, 2),
        ),
    ),
)

JAZZ = Score(
    "music_04_jazz_trio",
    152.0,
    7.5,
    -19.0,
    (
        Part(
            "acoustic grand piano",
            0,
            """
            -/.5 !78 D4+F4+A4+C5 -/1 !70 D4+F4+A4+C5/.5 -/1.5 | -/.5 !82 D4+F4+G4+B4 -/1 !72 F5/.5 D5 B4
            G4 !84 E4+G4+B4+D5/1.5 !74 E4+G4+A4+D5/.5 -/1 A5/.5 G5 | !88 E5 C5 A4 G4 !76 E4+G4+B4+C5/2
            """,
            volume=96,
            pan=44,
        ),
        Part(
            "acoustic bass",
            32,
            """
            !92 D2/1 F2 A2 C3 | B2 A2 G2 F2 | E2 G2 B2 A2 | G2 E2 C2/2
            """,
            volume=112,
            pan=60,
        ),
        Part(
            "ride cymbal, drums",
            0,
            """
            !82 ride/1 !92 ride+pedal/.66 !66 ride/.34 !82 ride/1 !92 ride+pedal/.66 !66 ride/.34 !82
            ride/1 !92 ride+pedal/.66 !66 ride/.34 !82 ride/1 !92 ride+pedal+stick/.66 !66 ride/.34 !82
            ride/1 !92 ride+pedal/.66 !66 ride/.34 !82 ride/1 !92 ride+pedal/.66 !70 snare/.34 !82
            ride+kick/1 !92 ride+pedal/.66 !76 snare/.34 !100 crash+kick/2
            """,
            volume=90,
            pan=84,
            percussion=True,
        ),
    ),
)

_ROCK_BEAT = """
    !112 kick+hat/.5 !84 hat !118 snare+hat !84 hat !108 kick+hat !112 kick+hat !118 snare+hat !92 open
"""

ROCK = Score(
    "music_05_rock_band",
    126.0,
    7.5,
    -15.0,
    (
        Part(
            "distortion guitar",
            30,
            """
            !104 E2+B2+E3/1.5 E2+B2+E3/.5 G2+D3+G3/1 A2+E3+A3 | E2+B2+E3/1.5 E2+B2+E3/.5 Bb2+F3+Bb3
            A2+E3+A3 G2+D3+G3/1 C3+G3+C4/1.5 C3+G3+C4/.5 D3+A3+D4/2 | E2+B2+E3/4
            """,
            volume=84,
            pan=22,
        ),
        Part(
            "overdriven guitar",
            29,
            """
            -/4 | !100 E5/.5 G5 A5 B5/1.5 A5/.5 G5 | !108 E5 D5 C5/1 !112 D5/.5 F#5 A5/1 | B5/4
            """,
            volume=74,
            pan=104,
        ),
        Part(
            "picked electric bass",
            34,
            """
            !108 E2/.5 E2 E2 E2 G2 G2 A2 A2 | E2 E2 E2 E2 Bb2 A2 G2 G2 C2 C2 C2 C2 D2 D2 D2 D2 | E2/4
            """,
            volume=108,
        ),
        Part(
            "drum kit",
            0,
            _ROCK_BEAT * 3 + "!122 crash+kick/1 !100 snare/.25 snare/.25 mid/.25 low/.25 !118 crash+kick/2",
            volume=110,
            percussion=True,
        ),
    ),
)

BAROQUE = Score(
    "music_06_flute_harpsichord",
    104.0,
    8.0,
    -20.0,
    (
        Part(
            "flute",
            73,
            """
            !84 ~90 A5/.5 G5/.25 F5 E5/.5 F5/.25 G5 A5/.5 D5 E5 C5 | ~104 D5/.25 E5 F5 G5 A5/.5 Bb5 A5/.25
            G5 F5 E5 D5/1 | ~116 F5/.25 A5 C6/.5 E5/.25 G5 C6/.5 D5/.25 F5 Bb5/.5 ~96 C5 E5 | ~84 F5/2
            """,
            volume=96,
            pan=40,
        ),
        Part(
            "harpsichord",
            6,
            """
            !90 F4+A4+C5/1 C4+G4+C5 D4+F4+A4 A3+E4+C5 | Bb3+D4+F4 F4+A4+C5 G4+Bb4+D5 D4+F4+A4 F4+A4+C5
            C4+E4+G4 Bb3+D4+F4 C4+E4+G4 | F4+A4+C5+F5/2
            """,
            volume=82,
            pan=92,
        ),
        Part(
            "bassoon",
            70,
            """
            !80 F2/.5 A2 C3 E3 D3 C3 A2/1 | Bb2/.5 D3 F3 F2 G2 Bb2 D3/1 A2/.5 F2 C3 E2 Bb2 D2 C3/1 | F2/2
            """,
            volume=86,
            pan=70,
        ),
    ),
)

PERCUSSION = Score(
    "music_07_percussion",
    118.0,
    6.5,
    -18.0,
    (
        Part(
            "drum kit",
            0,
            """
            !110 kick/.5 !60 hat/.25 !76 hat !100 snare/.5 !70 hat/.25 !60 kick+hat !112 kick/.5 !72 open
            !104 snare !62 hat !110 kick+crash !60 hat/.25 !76 hat !100 snare/.5 !70 hat/.25 !60 kick+hat
            !90 high high mid mid !98 low low !108 kick snare !116 kick+crash/1 !70 hat/.5 tri/1 !84
            kick/.5 !110 snare+open/1
            """,
            volume=104,
            percussion=True,
        ),
        Part(
            "congas, shaker, claves",
            0,
            """
            !84 conga+shaker/.25 !50 shaker !66 mute+shaker !50 shaker !88 claves+shaker !60 conga+shaker
            !84 mute+shaker !50 shaker !84 conga+shaker !50 shaker !90 claves+shaker !60 conga+shaker !84
            mute+tamb !50 shaker !92 conga+claves !50 shaker !84 bongo !60 bongo !92 conga !60 bongo !88
            cow/.5 !70 tamb !84 bongo/.25 bongo !96 conga/.5 !90 tamb+claves
            !88 conga+shaker/.25 !50 shaker mute+shaker shaker !92 cow+shaker shaker conga+shaker shaker
            !96 bongo bongo conga conga !100 conga+tamb/1
            """,
            volume=104,
            percussion=True,
        ),
    ),
)

_FOUR_ON_THE_FLOOR = "!116 kick/.5 !92 open/.5 !116 kick+clap/.5 !92 open/.25 !60 hat/.25 " * 2

SYNTH_GROOVE = Score(
    "music_08_synth_groove",
    128.0,
    7.5,
    -17.0,
    (
        Part(
            "clavinet",
            7,
            """
            -/4 | !92 A4/.25 C5 E5 A5 !76 G5 E5 C5 E5 !92 F4 A4 C5 F5 !76 E5 C5 A4 C5 !96 G4 B4 D5 G5 !80
            F5 D5 B4 D5 !100 E4 G#4 B4 E5 D5 B4 G#4 B4 | !104 A5/4
            """,
            volume=78,
            pan=90,
        ),
        Part(
            "warm pad",
            89,
            """
            !80 ~60 A3+C4+E4/2 ~84 F3+A3+C4 | ~100 G3+B3+D4 ~110 E3+G#3+B3 | ~104 A3+C4+E4 ~96 F3+A3+C4 |
            ~100 A3+E4+A4/4
            """,
            volume=88,
            pan=36,
            gate=Fraction(1),
        ),
        Part(
            "synth bass",
            38,
            """
            !104 -/.25 A1 A2 A1 - A1 A2 A1 - F1 F2 F1 - F1 F2 F1 - G1 G2 G1 - G1 G2 G1 - E1 E2 E1 - E1 E2
            E1 - A1 A2 A1 - A1 A2 A1 - F1 F2 F1 - E1 E2 E1 | A1/4
            """,
            volume=104,
        ),
        Part("drum machine", 0, _FOUR_ON_THE_FLOOR * 3 + "!120 crash+kick/4", volume=104, percussion=True),
    ),
)

SCORES = (PIANO, STRINGS, GUITAR, JAZZ, ROCK, BAROQUE, PERCUSSION, SYNTH_GROOVE)

"""The spoken clips: who says what. The texts were written for this project."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Utterance:
    """One spoken clip.

    Attributes:
        name: Stem of the clip's file.
        tool: ``"flite"`` or ``"espeak-ng"``.
        voice: The tool's name of the voice.
        text: What is said: given to the tool as it stands, and the clip's transcript.
        loudness_lufs: Loudness of the clip in LUFS; they differ a little, as recordings do.
        options: Further options of the tool.
    """

    name: str
    tool: str
    voice: str
    text: str
    loudness_lufs: float
    options: tuple[str, ...] = ()


UTTERANCES = (
    Utterance(
        "speech_01_slt",
        "flite",
        "slt",
        "The ferry leaves at twenty past six, so pack your gloves, a thermos of ginger tea, and something "
        "cheerful to read.",
        -22.0,
    ),
    Utterance(
        "speech_02_scottish",
        "espeak-ng",
        "en-gb-scotland",
        "Why would anyone measure a bridge with a violin string? Because it hums louder when the wind turns north.",
        -21.0,
        ("-s", "150"),
    ),
    Utterance(
        "speech_03_rms",
        "flite",
        "rms",
        "Three thousand and eighteen jars of honey were counted, weighed, and shipped before the village woke up.",
        -23.0,
    ),
    Utterance(
        "speech_04_rp_female",
        "espeak-ng",
        "en-gb-x-rp+f2",
        "Please choose your favourite shade of azure, then describe it to a friend who has never seen the sea.",
        -22.0,
        ("-s", "155"),
    ),
    Utterance(
        "speech_05_awb",
        "flite",
        "awb",
        "A shy fox jogged through the orchard, sniffed at a fallen pear, and vanished behind the old stone wall.",
        -21.5,
    ),
    Utterance(
        "speech_06_caribbean_female",
        "espeak-ng",
        "en-029+f3",
        "Good morning! Your parcel number is nine, zero, four, seven, double two, and it should arrive by Thursday.",
        -20.0,
        ("-s", "150"),
    ),
    Utterance(
        "speech_07_kal",
        "flite",
        "kal16",
        "Have you checked the valves? Pressure rose to eleven point five bars, which is rather more than I would like.",
        -22.5,
    ),
    Utterance(
        "speech_08_american",
        "espeak-ng",
        "en-us",
        "The judge paused, polished her glasses, and asked the youngest juror whether he had understood the question.",
        -23.0,
        ("-s", "160"),
    ),
    Utterance(
        "speech_09_slt",
        "flite",
        "slt",
        "Does thunder frighten the horses? Not usually, although last July a sudden flash sent them galloping home.",
        -20.5,
    ),
    Utterance(
        "speech_10_american_female",
        "espeak-ng",
        "en-us+f4",
        "Whisk four eggs with a pinch of sugar, fold in the flour, and bake at a hundred and eighty degrees.",
        -21.0,
        ("-s", "150", "-p", "60"),
    ),
    Utterance(
        "speech_11_rms",
        "flite",
        "rms",
        "Both theories predict the same curve; the trouble is that nobody has measured anything beyond the "
        "fifth decimal place.",
        -24.0,
    ),
    Utterance(
        "speech_12_lancaster",
        "espeak-ng",
        "en-gb-x-gbclan+m3",
        "Our bus takes the long way round, past the brewery, the chapel, and a field of very curious cows.",
        -22.0,
        ("-s", "155"),
    ),
    Utterance(
        "speech_13_awb",
        "flite",
        "awb",
        "On the thirty first of October, nineteen ninety nine, the lighthouse keeper wrote a single word: finally.",
        -19.5,
    ),
    Utterance(
        "speech_14_whisper",
        "espeak-ng",
        "en-us+whisperf",
        "Hush, the baby is asleep; leave the basket on the chair and tiptoe back to the kitchen.",
        -26.0,
        ("-s", "140"),
    ),
    Utterance(
        "speech_15_klatt",
        "espeak-ng",
        "en-us+klatt4",
        "Zinc, copper, and oxygen: which of these would you expect to find in a handful of ordinary garden soil?",
        -22.0,
        ("-s", "150"),
    ),
    Utterance(
        "speech_16_new_york_female",
        "espeak-ng",
        "en-us-nyc+Annie",
        "We painted the ceiling first, which was a mistake, since the blue paint dripped onto everything we own.",
        -21.0,
        ("-s", "150"),
    ),
)

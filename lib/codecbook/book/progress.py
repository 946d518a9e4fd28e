"""A sign of life of long work: a line now and then, which stays in the report."""

from collections.abc import Callable
from time import monotonic


def lines(every_s: float = 15.0, clock: Callable[[], float] = monotonic) -> Callable[[str], None]:
    """Return a function that prints the messages it is given, but at most one in `every_s` seconds.

    Work that takes less than that prints nothing. A line says how long the work has been going on, by the clock.

    Example:
        >>> say = lines(every_s=0)
        >>> say("clip 3/10")
        0 s: clip 3/10
    """
    start = last = clock()

    def say(message: str) -> None:
        nonlocal last
        now = clock()
        if now - last >= every_s:
            last = now
            print(f"{now - start:.0f} s: {message}", flush=True)

    return say

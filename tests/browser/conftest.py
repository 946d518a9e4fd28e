"""Chromium without a network: every request that leaves a page is recorded and refused."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCAL_SCHEMES = ("file:", "data:", "blob:", "about:")
# whatever is connected to the loudspeaker is also connected to a recorder in the audio thread, which misses no frame
TAP = """
window.tap = { chunks: [], frames: [], pressed: null };
const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([input]) {
    this.port.postMessage([currentFrame, input[0] ? input[0].slice() : new Float32Array(128)]);
    return true;
  }
})`;
const connect = AudioNode.prototype.connect;
const recorders = new Map();
AudioNode.prototype.connect = function (target, ...rest) {
  if (target === this.context.destination && this.context instanceof AudioContext) {
    if (!recorders.has(this.context)) {
      const made = (async (context) => {
        await context.audioWorklet.addModule("data:text/javascript," + encodeURIComponent(code));
        const node = new AudioWorkletNode(context, "tap");
        node.port.onmessage = ({ data: [frame, samples] }) => {
          if (context !== window.tap.context) return; // of the player that sounded before
          window.tap.frames.push(frame);
          window.tap.chunks.push(samples);
        };
        connect.call(node, context.destination);
        return node;
      })(this.context);
      Object.assign(window.tap, { context: this.context, frames: [], chunks: [] });
      recorders.set(this.context, made);
    }
    recorders.get(this.context).then((node) => connect.call(this, node));
  }
  return connect.call(this, target, ...rest);
};
addEventListener("keydown", () => (window.tap.pressed = window.tap.context?.currentTime), true);
"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """Use an installed Chromium; CODECBOOK_CHROMIUM names another program."""
    names = [os.environ["CODECBOOK_CHROMIUM"]] if os.environ.get("CODECBOOK_CHROMIUM") else BROWSERS
    program = next((found for found in map(shutil.which, names) if found), None)
    if program is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(names)}); install the Debian package chromium")
    # containers run as root and have little shared memory
    flags = ["--no-sandbox", "--disable-dev-shm-usage"]
    return {**browser_type_launch_args, "executable_path": program, "args": flags}


@dataclass
class Visit:
    """A page and what it did that it should not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path) -> Page:
        self.page.goto(path.as_uri())
        return self.page


@pytest.fixture
def visit(browser: Browser):
    """Make visits of a given width in a given colour scheme, offline."""
    contexts = []

    def make(width: int = 1280, color_scheme: str = "light") -> Visit:
        context = browser.new_context(offline=True, viewport={"width": width, "height": 844}, color_scheme=color_scheme)
        contexts.append(context)
        made = Visit(context.new_page())

        def refuse_remote(route: Route) -> None:
            if route.request.url.startswith(LOCAL_SCHEMES):
                route.continue_()
            else:
                made.requests.append(route.request.url)
                route.abort()

        context.route("**/*", refuse_remote)
        made.page.on(
            "console",
            lambda message: made.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        return made

    yield make
    for context in contexts:
        context.close()


SWITCH_S = 0.05


class Loudspeaker:
    """What reaches the loudspeaker of a page that has run `tap` before its own scripts.

    Clips are ramps, whose sample n is ``(n + 1) / 2^15`` or minus that, so that samples say which clip they are of, and
    where in it.
    """

    tap = TAP

    def heard(self, page: Page) -> tuple[np.ndarray, np.ndarray]:
        """Return the frames of the audio thread that were recorded, and their samples in steps of 16 bits, both int."""
        recorded = page.evaluate("() => ({ frames: tap.frames, chunks: tap.chunks.map((chunk) => [...chunk]) })")
        frames = np.array(recorded["frames"])[:, None] + np.arange(128)
        return frames.ravel(), np.round(np.ravel(recorded["chunks"]) * 2**15).astype(int)

    def assert_in_step(self, frames: np.ndarray, samples: np.ndarray, start: int, end: int) -> None:
        """The position in the ramp goes on with the frames, from its end to its start: no gap and no repetition."""
        places = np.abs(samples) - 1
        assert places.min() >= start
        assert places.max() < end
        assert len(set((places - frames) % (end - start))) == 1

    def assert_switched(self, page: Page, length: int, rate_hz: int) -> None:
        """The rising ramp gave way to the falling one within 50 ms, at the same place, and no frame is missing.

        How soon a browser hears of a key depends on the machine, and is not judged.
        """
        frames, samples = self.heard(page)
        places = np.abs(samples) - 1
        start = np.flatnonzero(samples > 0)[0]
        steps = (places - frames) % length
        rising, falling = (samples > 0) & (steps == steps[start + rate_hz // 10]), (samples < 0)
        falling &= steps == steps[-1]
        settled = start + round(SWITCH_S * rate_hz)  # sound is faded in
        # what is mixed may agree by chance where the ramps are low, hence the runs that nothing interrupts
        last = settled + np.flatnonzero(~rising[settled:])[0] - 1
        first = np.flatnonzero(~falling)[-1] + 1
        assert last - settled > rate_hz // 4, "the first one has a gap"
        assert 0 < frames[first] - frames[last] < SWITCH_S * rate_hz, "one of the two has a gap"
        assert np.diff(frames)[last - 1 : first + 1].max() == 1, "the recorder has seen every frame of the switch"
        assert steps[last] == steps[first], "the second one went on elsewhere"


@pytest.fixture(scope="session")
def loudspeaker() -> Loudspeaker:
    return Loudspeaker()

"""Uses the page of the video chat as a person does, in Chromium.

``python -m tests.video_chat_page URL VIDEO TRANSPORT`` takes "drawn" or "camera", and "any" or "tcp". It prints what
the page shows as JSON, and leaves a screenshot in ``page.png`` of the working directory.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from interop.peers.browser_peer import Chromium

_STATE = """
const back = document.getElementById("back");
return {
  pair: document.getElementById("pair").textContent,
  log: [...document.querySelectorAll("#log li")].map((each) => each.textContent),
  canSay: !document.getElementById("line").disabled,
  frames: back.getVideoPlaybackQuality().totalVideoFrames,
};
"""
_SAY = """
document.getElementById("line").value = arguments[0];
document.getElementById("chat").requestSubmit();
"""
_PATIENCE = 20.0


def main(url: str, video: str, transport: str) -> None:
    """Connect, say hello, wait until it and the video have come back."""
    browser = Chromium()
    try:
        browser.open(url)
        for box, is_wanted in (("camera", video == "camera"), ("tcp", transport == "tcp")):
            browser.run("document.getElementById(arguments[0]).checked = arguments[1]", box, is_wanted)
        browser.run("document.getElementById('start').click()")
        state = _wait(browser, lambda state: state["canSay"])
        browser.run(_SAY, "hello from the page")
        state = _wait(browser, lambda state: state["log"] and state["frames"] > 5 and state["pair"].startswith("over"))
        browser.screenshot("page.png")
        sys.stdout.write(json.dumps(state))
    finally:
        browser.close()


def _wait(browser: Chromium, condition: Any) -> dict[str, Any]:
    """The page's state as soon as it is as wanted, or when patience ends."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        state: dict[str, Any] = browser.run(_STATE)
        if condition(state) or time.monotonic() > deadline:
            return state
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Looks at a report in Chromium: ``python -m tests.report_in_browser PAGE WIDTH light|dark SCREENSHOT``.

It prints what a person would see as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from interop.peers.browser_peer import Chromium

_STATE = """
const shown = (element) => element.getClientRects().length > 0;
const ladder = document.querySelector("svg.ladder").getBoundingClientRect();
return {
  headline: document.querySelector("h1").textContent,
  wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ladder: [ladder.width, ladder.height],
  arrows: document.querySelectorAll("svg.ladder line:not(.lane)").length,
  rows: [...document.querySelectorAll("tbody tr")].filter(shown).length,
  block: getComputedStyle(document.querySelector("tbody tr")).display,
  labels: getComputedStyle(document.querySelector("tbody td"), "::before").content,
  colours: [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor],
  outside: [...document.querySelectorAll("svg.ladder text")].filter((text) => {
    const box = text.getBBox();
    return box.x < 0 || box.x + box.width > ladder.width;
  }).map((text) => text.textContent),
};
"""


def main(page: str, width: str, taste: str, screenshot: str) -> None:
    browser = Chromium()
    try:
        browser.show_as(int(width), 900, dark=taste == "dark")
        browser.open(Path(page).as_uri())
        state = browser.run(_STATE)
        browser.screenshot(screenshot)
        sys.stdout.write(json.dumps({**state, "complaints": browser.complaints()}))
    finally:
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

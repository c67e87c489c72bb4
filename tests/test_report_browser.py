"""The report as a real browser shows it, of real sessions: on a phone and on a desk, in light and dark."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ice_tcp.cli import main

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parent.parent
PHONE, DESK = 360, 1200


@pytest.fixture(scope="module", params=["udp", "tcp"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of both sides of a demonstration."""
    directory = tmp_path_factory.mktemp("report")
    trace = directory / "demo.jsonl"
    demo = [sys.executable, "-m", "ice_tcp.cli", "demo", "--transport", request.param, "--trace", str(trace)]
    subprocess.run(demo, check=True, capture_output=True, timeout=60)  # noqa: S603 - our own command
    made = CliRunner().invoke(main, ["report", str(trace), str(directory / "demo-receiver.jsonl")])
    assert made.exit_code == 0, made.output
    return directory / "demo.html"


def seen(page: Path, width: int, taste: str = "light") -> dict[str, Any]:
    picture = page.with_name(f"{width}-{taste}.png")
    looks = [sys.executable, "-m", "tests.report_in_browser", str(page), str(width), taste, str(picture)]
    done = subprocess.run(looks, check=True, capture_output=True, timeout=100, cwd=ROOT)  # noqa: S603
    state: dict[str, Any] = json.loads(done.stdout)
    return {**state, "picture": picture}


def shades(picture: Path) -> int:
    """How many different bytes the pixels of a PNG have; a blank one has a few."""
    data = picture.read_bytes()
    at, pixels = 8, b""
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            pixels += data[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(pixels)))


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_fits_and_shows_everything(page: Path, width: int) -> None:
    state = seen(page, width)
    assert state["headline"].startswith("Connected directly over")
    assert state["wider"] <= 0
    assert state["complaints"] == []
    assert state["arrows"] >= 4
    assert state["rows"] >= 8
    assert state["outside"] == []
    assert shades(state["picture"]) > 100


def test_on_a_phone_each_row_is_a_card_with_its_labels(page: Path) -> None:
    phone, desk = seen(page, PHONE), seen(page, DESK)
    assert phone["block"] == "block"
    assert phone["labels"] == '"Pair"' or "attr" in phone["labels"]
    assert desk["block"] == "table-row"
    assert desk["labels"] == "none"
    assert phone["ladder"] == desk["ladder"]  # it scrolls, and stays readable


def test_at_night_it_is_dark(page: Path) -> None:
    day, night = seen(page, DESK), seen(page, DESK, "dark")
    assert day["colours"] != night["colours"]
    assert day["headline"] == night["headline"]

"""The documents as a site: it builds without a warning, every page can be reached, every public name is described."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from interop.diagrams import diagrams
from interop.natlab.command import command as lab_command

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
PUBLIC: Final = (
    "candidates",
    "candidates.policy",
    "ice_tcp",
    "ice_tcp.capsule",
    "ice_tcp.compat.aioice",
    "ice_tcp.meeting",
    "ice_tcp.metrics",
    "ice_tcp.punching",
    "ice_tcp.quic",
    "ice_tcp.rendezvous",
    "ice_tcp.report",
    "ice_tcp.server",
    "ice_tcp.signaling",
    "ice_tcp.stun",
    "ice_tcp.tracefile",
    "ice_tcp.transfer",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does."""
    directory = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*build, "-d", str(directory / "trees"), str(DOCS), str(directory / "html")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return directory / "html"


def links(page: Path, site: Path) -> set[Path]:
    """The pages of the site that a page links to."""
    found = set()
    for target in re.findall(r'href="([^"#:?]+\.html)(?:#[^"]*)?"', page.read_text("utf-8")):
        path = (page.parent / target).resolve()
        if path.is_file() and path.is_relative_to(site.resolve()):
            found.add(path)
    return found


def test_every_page_can_be_reached_from_the_first(site: Path) -> None:
    reached: set[Path] = set()
    waiting = {(site / "index.html").resolve()}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting |= links(page, site) - reached
    written = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert len(written) > 25
    assert {path.relative_to(site.resolve()) for path in reached} >= written


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_described(site: Path, module: str) -> None:
    text = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    names = importlib.import_module(module).__all__
    described = {name.rpartition(".")[2] for name in re.findall(r'<dt class="sig[^"]*" id="([^"]+)"', text)}
    assert names
    assert [name for name in names if name not in described] == []


def test_the_diagrams_are_those_of_their_traces() -> None:
    drawn = dict(diagrams())
    assert {path.name for path in drawn} == {"answering.svg", "dropping.svg"}
    assert [path.name for path, text in drawn.items() if path.read_text("utf-8") != text] == []  # else: make docs


def test_how_it_works_can_be_seen(tmp_path: Path) -> None:
    text = (DOCS / "how-it-works.md").read_text("utf-8")
    lines = re.findall(r"^\$ ice-tcp (.*)", text, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        command = [sys.executable, "-m", "ice_tcp.cli", *shlex.split(line)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)  # noqa: S603 - our own command
        assert done.returncode == 0, done.stderr
    assert "by simultaneous open" in done.stdout
    (lab,) = re.findall(r'^\$ sudo make lab ARGS="(.*)"', text, re.MULTILINE)
    lab_command.make_context("lab", shlex.split(lab))


def test_the_site_is_not_in_the_package() -> None:
    assert "docs" not in re.findall(r"include = (.*)", (ROOT / "pyproject.toml").read_text("utf-8"))[0]

"""The guides' programs run with the guides' policies, and what they change is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ice_tcp import read_policy

GUIDES: Final = sorted(Path(__file__).parent.parent.joinpath("docs", "guides").glob("*.md"))
SAYS: Final = {"aiortc": "tcp direct\n", "aioice": "b'hello' over tcp\n"}
"""What the program of each guide prints."""
LOOPBACK: Final = "interfaces: {loopback: true}\n"

each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_there_is_a_guide_for_each() -> None:
    assert {guide.stem for guide in GUIDES} == set(SAYS)


@each_guide
def test_its_program_works_with_its_policy(guide: Path, tmp_path: Path) -> None:
    (policy,), (program,) = blocks(guide, "yaml"), blocks(guide, "python")
    file = tmp_path / "policy.yaml"
    file.write_text(policy, "utf-8")
    assert [*read_policy(file).transports] == ["tcp"]
    file.write_text(f"{re.sub('^servers:.*', '', policy, flags=re.MULTILINE | re.DOTALL)}{LOOPBACK}", "utf-8")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)  # noqa: S603
    assert (done.stdout, done.stderr) == (SAYS[guide.stem], "")


@each_guide
def test_the_import_that_it_changes_to_works(guide: Path) -> None:
    (change,) = blocks(guide, "diff")
    (new,) = re.findall(r"^\+(.*)", change, re.MULTILINE)
    exec(compile(new, str(guide), "exec"), {})  # noqa: S102 - what a reader would write


@each_guide
def test_its_links_lead_somewhere(guide: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text("utf-8")):
        assert (guide.parent / link).exists(), link

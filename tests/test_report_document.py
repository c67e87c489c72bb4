"""`docs/report.md`: its programs and commands run, in their order, and leave what they say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from ice_tcp import read_trace
from ice_tcp.tracefile.writer import LIMIT_BYTES

DOCUMENT = (Path(__file__).parent.parent / "docs" / "report.md").read_text("utf-8")


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["console", "python", "console", "console", "python"]
    for language, text in blocks:
        if language == "python":
            lines = [[sys.executable, "-c", text]]
        else:
            lines = [
                [sys.executable, "-m", "ice_tcp.cli", *shlex.split(line)]
                for line in re.findall(r"^\$ ice-tcp (.*)", text, re.MULTILINE)
            ]
            assert len(lines) == len(text.splitlines())
        for line in lines:
            done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)  # noqa: S603
            assert done.returncode == 0, done.stderr
    assert "directly over TCP" in (tmp_path / "demo.html").read_text("utf-8")
    assert "redacted" in (tmp_path / "public.html").read_text("utf-8")
    assert read_trace(tmp_path / "session.jsonl").notes == ()
    assert "GatheringDone" in done.stdout  # what the last program prints of that trace


def test_its_limit_is_that_of_the_code() -> None:
    assert f"{LIMIT_BYTES >> 20} MiB" in DOCUMENT

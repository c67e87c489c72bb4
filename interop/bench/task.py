"""One run of a scenario, and how it gets its fresh interpreter."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from interop.bench.figures import Malloc
from interop.bench.session import BenchError

RUN_SECONDS: Final = 300.0
"""Longest time of one run; a message that was lost shows by it."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Task:
    """A scenario for a subject. ``first`` tells which end this process is if ``processes`` is 2."""

    scenario: str
    subject: str
    processes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    malloc: Malloc = Malloc.COLD
    first: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        return cls(**json.loads(text))


async def spawn(task: Task, *, stdin: int) -> asyncio.subprocess.Process:
    """Start a fresh interpreter with the task; its standard output is piped."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT), os.environ.get("PYTHONPATH", "")))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "interop.bench.worker",
        task.to_json(),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )


async def run_in_fresh_interpreter(task: Task) -> dict[str, Any]:
    """The scenario's result. Raises BenchError if there is none."""
    process = await spawn(task, stdin=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(RUN_SECONDS + 30):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{task.scenario} for {task.subject} does not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise BenchError(f"{task.scenario} for {task.subject} failed; its error stands above")
    result: dict[str, Any] = json.loads(output)
    return result

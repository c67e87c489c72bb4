"""Runs coroutines of tests, on asyncio's loop or on uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest
import uvloop

Runner: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

_TIMEOUT = 30.0


def run(main: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Run ``main`` to its end; what it leaves behind, or the loop has to complain of, is an error."""
    complaints: list[dict[str, Any]] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(_TIMEOUT):
            await main
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks were left behind"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())
    assert not complaints, complaints


@pytest.fixture(params=[None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Runner:
    """`run`, on each kind of loop."""
    return lambda main: run(main, request.param)

"""What a reader awaits: woken within the callback, and never at the price of a message or of another task."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from ice_tcp.net.arrival import Arrival
from tests.loops import Runner, on_loop

__all__ = ["on_loop"]

_name: ContextVar[str] = ContextVar("_name")


async def _waiting(arrival: Arrival) -> asyncio.Task[bytes | None]:
    async def wait() -> bytes | None:
        return await arrival

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert arrival.is_awaited
    return task


async def _in_callback(arrival: Arrival, message: bytes) -> tuple[bool, bool]:
    """Deliver as a reader callback does; whether someone waited, and whether anyone waits when that returns."""
    outcome: asyncio.Future[tuple[bool, bool]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(
        lambda: outcome.set_result((arrival.deliver(message), arrival.is_awaited)),
    )
    return await outcome


def test_the_task_runs_within_the_delivery(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        taken: list[bytes | None] = []

        async def read() -> None:
            while True:
                taken.append(await arrival)

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        for message in (b"one", b"two"):
            # It took the message and waits again before deliver() returned.
            assert await _in_callback(arrival, message) == (True, True)
        assert taken == [b"one", b"two"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    on_loop(main())


def test_nobody_waits(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        assert await _in_callback(arrival, b"lost?") == (False, False)
        arrival.notify()  # does nothing
        task = await _waiting(arrival)
        assert not task.done()
        assert await _in_callback(arrival, b"kept") == (True, False)
        assert await task == b"kept"

    on_loop(main())


def test_notified_later_with_nothing(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        task = await _waiting(arrival)
        arrival.notify()
        assert not task.done()
        assert not arrival.is_awaited  # so that nothing is delivered past what it was told of
        assert not arrival.deliver(b"out of order")
        assert await task is None

    on_loop(main())


def test_cancelled_while_it_waits(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        task = await _waiting(arrival)
        task.cancel("enough")
        assert not arrival.deliver(b"for the next one")
        with pytest.raises(asyncio.CancelledError):
            await task
        again = await _waiting(arrival)
        assert await _in_callback(arrival, b"for me") == (True, False)
        assert await again == b"for me"

    on_loop(main())


def test_cancelled_after_it_was_notified(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        task = await _waiting(arrival)
        arrival.notify()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        again = await _waiting(arrival)
        arrival.notify()
        assert await again is None

    on_loop(main())


def test_wait_for_gives_up_and_the_next_message_is_not_lost(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())

        async def wait() -> bytes | None:
            return await arrival

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.001)
        assert not arrival.is_awaited
        assert await _in_callback(arrival, b"late") == (False, False)

    on_loop(main())


def test_the_task_keeps_its_context_and_the_caller_its_own(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())
        seen: list[str] = []

        async def read() -> None:
            _name.set("reader")
            await arrival
            seen.append(_name.get())
            _name.set("changed")

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        _name.set("caller")
        assert await _in_callback(arrival, b"x") == (True, False)
        assert (seen, _name.get()) == (["reader"], "caller")
        await task

    on_loop(main())


def test_what_the_task_raises_is_the_tasks(on_loop: Runner) -> None:
    async def main() -> None:
        arrival = Arrival(asyncio.get_running_loop())

        async def read() -> None:
            await arrival
            raise ValueError("mine")

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        assert await _in_callback(arrival, b"x") == (True, False)
        with pytest.raises(ValueError, match="mine"):
            await task

    on_loop(main())

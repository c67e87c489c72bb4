"""What a reader awaits: its task goes on within the callback that brings the message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context


class Arrival:
    """Something to await, again and again, by one task at a time.

    A future wakes its task in the next iteration of the loop, which asks the kernel for events in between: an eighth
    of what a lone message costs. This one, which speaks the protocol that tasks and futures share, can run the task
    at once. It therefore holds no message while a task may be cancelled, and none is lost.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_loop", "_message", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._wake: Callable[[Arrival], object] | None = None
        self._context: Context | None = None
        self._message: bytes | None = None
        self._cancelled = False

    def __await__(self) -> Generator[Arrival, None, bytes | None]:
        """What `deliver` was given; None after `notify`."""
        self._asyncio_future_blocking = True
        yield self
        message, self._message = self._message, None
        return message

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits that nothing has woken yet."""
        return self._wake is not None

    def deliver(self, message: bytes | None) -> bool:
        """Run the waiting task with this message now; False if none waits.

        Only for callbacks of the loop, as the last thing they do: the task may close whatever called.
        """
        wake = self._wake
        if wake is None:
            return False
        self._wake = None
        self._message = message
        assert self._context is not None
        self._context.run(wake, self)
        return True

    def notify(self) -> None:
        """Wake the waiting task, if there is one, in the next iteration of the loop."""
        wake, self._wake = self._wake, None
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)

    # What a task asks of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Callable[[Arrival], object], *, context: Context) -> None:
        self._wake, self._context = wake, context

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - the task keeps it
        if self._wake is None:
            return False
        self._cancelled = True
        self.notify()
        return True

    def result(self) -> None:
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError

"""Any program as a target: it speaks lines of JSON over its standard input and output.

Each agent is a process of its own. The program begins with one line that says what it is, and then answers each line
that it reads, in whatever order, until its input ends. `docs/conformance.md` has the protocol, and
`interop.conformance.targets.libnice_program` is an example of it.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from interop.conformance.target import Capability, Description, Setup, TargetAgent, TargetError

_HELLO_TIMEOUT: Final = 20.0
_LONGEST_LINE: Final = 1 << 20


class PipeTarget:
    """The program of a command line. Raises TargetError if it does not say what it is."""

    deviations: Mapping[str, str] = {}

    def __init__(self, command: str | Sequence[str]) -> None:
        self._command = shlex.split(command) if isinstance(command, str) else list(command)
        hello = self._hello()
        try:
            self.name = str(hello["name"])
            self.version = str(hello["version"])
            self.capabilities = frozenset(map(Capability, hello["capabilities"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TargetError(f"{self._command[0]} does not say what it is: {error}") from error

    async def create(self, setup: Setup) -> TargetAgent:
        return await PipeAgent.start(self._command, setup)

    async def close(self) -> None:
        pass

    def _hello(self) -> dict[str, Any]:
        try:
            run = subprocess.run(  # noqa: S603 - the user's own program
                self._command, input=b"", stdout=subprocess.PIPE, timeout=_HELLO_TIMEOUT, check=False
            )
            hello = json.loads(run.stdout.partition(b"\n")[0])
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise TargetError(f"{shlex.join(self._command)} cannot be tested: {error}") from error
        if not isinstance(hello, dict):
            raise TargetError(f"{self._command[0]} does not say what it is, but {hello!r}")
        return hello


class PipeAgent:
    """One process. Its answers may come in any order, told apart by the number of the question."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], setup: Setup) -> PipeAgent:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=_LONGEST_LINE
        )
        agent = cls(process)
        try:
            await agent._ask("create", **(asdict(setup) | {"kinds": sorted(setup.kinds)}))
        except BaseException:
            await agent.close()
            raise
        return agent

    async def gather(self) -> Description:
        return _description(await self._ask("gather"))

    async def set_remote(self, description: Description) -> None:
        told = asdict(description)
        del told["candidates"]
        await self._ask("set-remote", **told)

    async def add_remote_candidate(self, line: str) -> None:
        await self._ask("add-remote-candidate", line=line)

    async def end_of_candidates(self) -> None:
        await self._ask("end-of-candidates")

    async def connect(self) -> None:
        await self._ask("connect")

    async def send(self, data: bytes, component: int) -> None:
        await self._ask("send", data=data.hex(), component=component)

    async def receive(self, component: int) -> bytes:
        answer = await self._ask("receive", component=component)
        try:
            return bytes.fromhex(answer["data"])
        except (KeyError, TypeError, ValueError) as error:
            raise TargetError(f"no data in {answer!r}") from error

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        pair = await self._ask("selected-pair", component=component)
        return None if pair is None else (str(pair[0]), str(pair[1]))

    async def restart(self) -> Description:
        return _description(await self._ask("restart"))

    async def close(self) -> None:
        """End the program: first kindly, then by force."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()

    async def _ask(self, what: str, **arguments: Any) -> Any:
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        question = json.dumps({"id": number, "do": what, **arguments})
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{question}\n".encode())
            await self._process.stdin.drain()
            return await answer
        except OSError as error:
            raise TargetError(f"the program has ended: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        reason = "the program has ended"
        try:
            await self._process.stdout.readline()  # what it is, which is known
            while line := await self._process.stdout.readline():
                self._answered(json.loads(line))
        except ValueError as error:
            reason = f"the program does not speak the protocol: {error}"
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(TargetError(reason))

    def _answered(self, answer: dict[str, Any]) -> None:
        waiting = self._waiting.get(answer.get("id", 0))
        if waiting is None or waiting.done():
            return
        if "error" in answer:
            waiting.set_exception(TargetError(str(answer["error"])))
        else:
            waiting.set_result(answer.get("result"))


def _description(told: Any) -> Description:
    try:
        return Description(
            ufrag=told["ufrag"],
            pwd=told["pwd"],
            options=tuple(told.get("options", ())),
            lite=bool(told.get("lite", False)),
            pacing=told.get("pacing"),
            candidates=tuple(told["candidates"]),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise TargetError(f"no description in {told!r}") from error

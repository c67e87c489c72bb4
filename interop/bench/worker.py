"""One run, in the process that was started for it: ``python -m interop.bench.worker TASK``."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

from interop.bench.figures import Malloc
from interop.bench.scenarios import SCENARIOS
from interop.bench.session import BenchError, Channel, PipeChannel, QueueChannel, Session
from interop.bench.task import RUN_SECONDS, Task, spawn


def main() -> None:
    """Print the result of the task in the first argument as JSON, or be the second end of one."""
    task = Task.from_json(sys.argv[1])
    if task.malloc == Malloc.WARM:
        # To free a block over 256 KiB raises the size from which glibc maps memory for each block apart
        block = bytearray(8 << 20)
        del block
    asyncio.run(_run(task))


async def _run(task: Task) -> None:
    async with asyncio.timeout(RUN_SECONDS):
        if not task.first:
            await _scenario(task, await _pipe_to_parent())
        elif task.processes == 2:
            print(json.dumps(await _with_second_process(task)))
        else:
            print(json.dumps(await _in_this_process(task)))


async def _scenario(task: Task, channel: Channel) -> dict[str, Any]:
    session = Session(task.first, task.subject, task.processes, task.options, channel)
    return await SCENARIOS[task.scenario](session)


async def _in_this_process(task: Task) -> dict[str, Any]:
    channel = QueueChannel()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_scenario(task, channel))
        group.create_task(_scenario(replace(task, first=False), channel.other_end))
    return first.result()


async def _with_second_process(task: Task) -> dict[str, Any]:
    process = await spawn(replace(task, first=False), stdin=asyncio.subprocess.PIPE)
    if process.stdout is None or process.stdin is None:
        raise BenchError("the second process has no pipes")
    try:
        result = await _scenario(task, PipeChannel(process.stdout, process.stdin))
        process.stdin.close()
        if await process.wait():
            raise BenchError("the second process failed; its error stands above")
        return result
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _pipe_to_parent() -> PipeChannel:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return PipeChannel(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


if __name__ == "__main__":
    main()

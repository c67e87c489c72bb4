"""Send a file straight to another host, over one TCP connection that ICE finds: no server in between.

    host A: python send_file.py send holiday.mp4      # prints a line; give it to B in any way you have
    host B: python send_file.py receive               # paste A's line, and give the line that it prints back to A

Each line has what ICE must know of the other side. Whoever can change these lines can receive the file, and what
crosses is not encrypted: carry them over what you trust, or use `ice_tcp.quic`, whose streams are encrypted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import sys
from pathlib import Path

from candidates.sdp import IceDescription, format_description, parse_description
from ice_tcp import Agent, IceError, Policy, Role, read_policy

CHUNK_BYTES = 2**16
TCP_ONLY = Policy.default().revised(transports=["tcp"])


async def local_line(agent: Agent) -> str:
    """What the other side must know of us."""
    await agent.gather()
    candidates = tuple([candidate async for candidate in agent.local_candidates()])
    description = format_description(IceDescription(agent.local_parameters, candidates, end_of_candidates=True))
    return base64.b64encode(description.encode()).decode()


def take_remote_line(agent: Agent, line: str) -> None:
    """Raises ValueError if it is not a line of the other side."""
    description = parse_description(base64.b64decode(line, validate=True).decode())
    agent.set_remote_parameters(description.parameters)
    for candidate in description.candidates:
        agent.add_remote_candidate(candidate)
    agent.end_of_candidates()


async def ask_for_line() -> str:
    print("The other side's line:", flush=True)
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def send(agent: Agent, path: Path) -> None:
    print(await local_line(agent), flush=True)
    take_remote_line(agent, await ask_for_line())
    _, writer = await agent.open_stream()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        writer.write(f"{path.name}\n{size}\n".encode())
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            await writer.drain()
    writer.close()
    await writer.wait_closed()
    print(f"sent {path.name}, SHA-256 {digest.hexdigest()}")


async def receive(agent: Agent, directory: Path) -> None:
    take_remote_line(agent, await ask_for_line())
    print(await local_line(agent), flush=True)
    reader, writer = await agent.open_stream()
    name = Path((await reader.readline()).decode().strip()).name  # never a path of the sender's choice
    size = int(await reader.readline())
    digest = hashlib.sha256()
    missing = size
    with (directory / name).open("xb") as file:
        while missing and (chunk := await reader.read(min(CHUNK_BYTES, missing))):
            digest.update(chunk)
            file.write(chunk)
            missing -= len(chunk)
    writer.close()
    if missing:
        raise SystemExit(f"{missing} of {size} bytes did not come")
    print(f"received {name}, {size} bytes, SHA-256 {digest.hexdigest()}")


async def main() -> None:
    parser = argparse.ArgumentParser(description="Send a file over a direct TCP connection.")
    parser.add_argument("--policy", type=Path, help="a policy file; over TCP only unless given")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("send").add_argument("file", type=Path)
    actions.add_parser("receive").add_argument("--into", type=Path, default=Path(), help="a directory; this one")
    options = parser.parse_args()
    policy = read_policy(options.policy) if options.policy else TCP_ONLY
    role = Role.CONTROLLING if options.action == "send" else Role.CONTROLLED
    try:
        async with Agent(role, policy=policy) as agent:
            await (send(agent, options.file) if options.action == "send" else receive(agent, options.into))
    except (IceError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    asyncio.run(main())

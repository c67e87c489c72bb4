"""Programs that we did not write work after their import is changed: aioice's and aiortc's examples, and their tests.

They come with the libraries' sources, which `make interop-deps` fetches. Nothing is changed in them but where
`Connection` and `RTCPeerConnection` come from. They run in a network namespace: their examples name servers of the
internet.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import tarfile
import textwrap
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from interop.natlab.namespaces import run as run_program

pytestmark = pytest.mark.interop

ROOT: Final = Path(__file__).parent.parent
_PROCESSES: Final = 6

SOURCES: Final = ROOT / "interop" / "peers" / "sources"

AIOICE_IMPORT: Final = (r"^import aioice$", "from ice_tcp.compat import aioice")
AIORTC_IMPORT: Final = (r"^from aiortc import", "from ice_tcp.compat.aiortc import")
CONNECTION_IMPORT: Final = (r"\bice\.Connection\b", "ice_tcp.compat.aioice.Connection")

UNDOCUMENTED: Final = re.compile(
    r"\w\._\w|\bmock\b|\bice\.(?!Connection\b)|\bstun\.|StunProtocol|ProtocolMock|assertLogs"
)
"""What shows that a test of aioice looks inside it, or lowers its constants: it tests aioice, not its interface."""

AIOICE_DIFFERS: Final = {"test_connect_with_stun_server", "test_local_username_and_password"}
"""A server-reflexive candidate that is the host's is redundant (RFC 8445 s5.1.3); we draw longer user names."""

AIOICE_WAITS: Final = "test_connect_mdns_bad_then_end_of_candidates"
"""Passes, after the 39.5 s that RFC 8863 wants to be waited for a peer's check; left out here."""

AIORTC_DIFFERS: Final = {
    "test_connect_audio_bidirectional",
    "test_connect_audio_bidirectional_with_empty_iceservers",
    "test_connect_audio_codec_preferences_offerer",
    "test_connect_video_bidirectional",
}
"""They list all that getStats tells; ours tells of candidates and pairs, too."""
STATES: Final = '''

async def assertIceChecking(self, pc):
    """Ours may be past it before anybody looks."""
    await self.sleepWhile(lambda: pc.iceConnectionState == "new")
    self.assertIn(pc.iceConnectionState, ("checking", "completed"))
    self.assertEqual(pc.iceGatheringState, "complete")


async def assertIceCompleted(self, pc1, pc2):
    """The answering end may have a path before the offering one has the answer, and is "new"."""
    await self.sleepWhile(lambda: {pc1.iceConnectionState, pc2.iceConnectionState} & {"new", "checking"})
    self.assertEqual([pc1.iceConnectionState, pc2.iceConnectionState], ["completed", "completed"])


RTCPeerConnectionTest.assertIceChecking = assertIceChecking
RTCPeerConnectionTest.assertIceCompleted = assertIceCompleted
'''
"""In place of two helpers of aiortc's tests, which know how slow aioice is."""


@dataclass(frozen=True, slots=True)
class Place:
    """The unpacked source of a library, without the library itself: that is the installed one."""

    directory: Path
    namespace: str
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def change(self, name: str, *changes: tuple[str, str], then: str = "") -> None:
        """Replace in a file; each pattern has to be there. ``then`` is appended."""
        file = self.directory / name
        text = file.read_text("utf-8")
        for pattern, replacement in changes:
            text, times = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert times, f"{pattern} is not in {name}"
        file.write_text(text + then, "utf-8")

    async def start(self, name: str | Path, *arguments: str | Path) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command(name, *arguments), stdout=PIPE, stderr=PIPE, cwd=self.directory, env=self.environment
        )

    def hide(self, directory: str, module: str) -> None:
        """Let the programs of a directory find no such module."""
        (self.directory / directory / f"{module}.py").write_text("raise ImportError\n", "utf-8")

    def unittest(self, tests: list[str]) -> set[str]:
        """Run tests, which sleep most of the time, in several processes; the names of those that did not pass."""
        commands = [self._command("-m", "unittest", "-v", *tests[number::_PROCESSES]) for number in range(_PROCESSES)]
        running = [
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.directory, env=self.environment)  # noqa: S603
            for command in commands
        ]
        told = "".join(process.communicate()[1] for process in running)
        assert sum(map(int, re.findall(r"^Ran (\d+) tests", told, re.MULTILINE))) == len(tests), told
        return set(re.findall(r"^(?:FAIL|ERROR): (\w+)", told, re.MULTILINE))

    def patch(self, patch: Path) -> None:
        """Change the library, and use what comes out instead of the installed one."""
        run_program("patch", "-p1", "-d", str(self.directory.parent), "-i", str(patch))
        self.environment["PYTHONPATH"] = f"{self.directory.parent / 'src'}{os.pathsep}{ROOT}"

    def _command(self, *arguments: str | Path) -> tuple[str | Path, ...]:
        return ("ip", "netns", "exec", self.namespace, sys.executable, *arguments)


def unpack(library: str, namespace: str, directory: Path) -> Place:
    archives = list(SOURCES.glob(f"{library}-*.tar.gz"))
    assert archives, "make interop-deps fetches the sources"
    with tarfile.open(archives[0]) as archive:
        archive.extractall(directory, filter="data")
    (place,) = directory.iterdir()
    (place / "src").rename(directory / "src")
    return Place(place, namespace)


@pytest.fixture
def aioice(lone_host: str, tmp_path: Path) -> Place:
    return unpack("aioice", lone_host, tmp_path)


@pytest.fixture
def aiortc(lone_host: str, tmp_path: Path) -> Place:
    return unpack("aiortc", lone_host, tmp_path)


async def until(stream: asyncio.StreamReader | None, words: bytes) -> bytes:
    """The first line with these words."""
    assert stream is not None
    async for line in stream:
        if words in line:
            return line
    raise AssertionError(f"{words!r} was not said")


async def finish(process: Process) -> str:
    """What it printed. It has to succeed."""
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def there(socket: Path) -> None:
    """The end that sends first waits there for the other."""
    while not socket.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("components", ["1", "2"])
def test_the_example_of_aioice(aioice: Place, components: str) -> None:
    aioice.change("examples/ice-client.py", AIOICE_IMPORT)

    async def main() -> tuple[str, str]:
        signaling = await aioice.start("examples/signaling-server.py")
        try:
            await asyncio.sleep(1)  # it says nothing when it is there
            answering = await aioice.start("examples/ice-client.py", "--components", components, "answer")
            await until(answering.stderr, b"connection is OPEN")
            offering = await aioice.start("examples/ice-client.py", "--components", components, "offer")
            return await asyncio.gather(finish(offering), finish(answering))
        finally:
            signaling.kill()
            await signaling.communicate()

    offered, answered = asyncio.run(main())
    assert "received b'hello' on component 1" in offered
    assert "echoing b'hello' on component 1" in answered


def test_the_file_transfer_of_aiortc(aiortc: Place, tmp_path: Path) -> None:
    aiortc.change("examples/datachannel-filexfer/filexfer.py", AIORTC_IMPORT)
    aiortc.hide("examples/datachannel-filexfer", "uvloop")  # the example asks it for what it has no more
    sent, received, socket = (tmp_path / each for each in ("sent", "received", "socket"))
    sent.write_bytes(os.urandom(1_000_000))

    async def main() -> None:
        transfer = ("examples/datachannel-filexfer/filexfer.py", "-s", "unix-socket", "--signaling-path", socket)
        sending = await aiortc.start(*transfer, "send", sent)
        await there(socket)
        receiving = await aiortc.start(*transfer, "receive", received)
        await asyncio.gather(finish(receiving), finish(sending))

    asyncio.run(main())
    assert received.read_bytes() == sent.read_bytes()


def test_the_data_channel_of_aiortc(aiortc: Place, tmp_path: Path) -> None:
    aiortc.change("examples/datachannel-cli/cli.py", AIORTC_IMPORT)
    socket = tmp_path / "socket"

    async def main() -> bytes:
        channel = ("-u", "examples/datachannel-cli/cli.py", "-s", "unix-socket", "--signaling-path", socket)
        offering = await aiortc.start(*channel, "offer")
        await there(socket)
        answering = await aiortc.start(*channel, "answer")
        try:
            return await until(offering.stdout, b"RTT")
        finally:
            for end in (offering, answering):
                end.kill()
                await end.communicate()

    assert re.search(rb"RTT [\d.]+ ms", asyncio.run(main()))


def written_in(file: Path) -> Iterator[tuple[str, str]]:
    """The tests of a file, as unittest names them, and their source."""
    text = file.read_text("utf-8")
    for suite in ast.parse(text).body:
        if isinstance(suite, ast.ClassDef):
            for test in suite.body:
                if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                    parts = (ast.get_source_segment(text, each) or "" for each in (*test.decorator_list, test))
                    yield f"tests.{file.stem}.{suite.name}.{test.name}", "\n".join(parts)


def test_the_tests_of_aioice(aioice: Place) -> None:
    files = [aioice.directory / "tests" / name for name in ("test_ice.py", "test_ice_trickle.py")]
    tests = [name for file in files for name, source in written_in(file) if not UNDOCUMENTED.search(source)]
    (waiting,) = (name for name in tests if name.endswith(AIOICE_WAITS))
    tests.remove(waiting)
    assert len(tests) > 20
    for file in files:
        add_import = (r"^import asyncio$", "import asyncio\nimport ice_tcp.compat.aioice")
        aioice.change(f"tests/{file.name}", CONNECTION_IMPORT, add_import)
    assert aioice.unittest(tests) == AIOICE_DIFFERS


def test_the_tests_of_aiortc(aiortc: Place) -> None:
    tests = []
    for name, more in (("tests/test_rtcpeerconnection.py", STATES), ("tests/test_ortc.py", "")):
        tests += [test for test, _ in written_in(aiortc.directory / name)]
        aiortc.change(name, AIORTC_IMPORT, then=more)
    assert len(tests) > 80
    assert aiortc.unittest(tests) == AIORTC_DIFFERS


def test_the_patch_that_aiortc_would_need(aiortc: Place, tmp_path: Path) -> None:
    document = (ROOT / "docs" / "upstream.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    aiortc.patch(ROOT / "docs" / "upstream" / "aiortc-connection-factory.patch")
    (tmp_path / "program.py").write_text(program, "utf-8")

    async def main() -> str:
        return await finish(await aiortc.start(tmp_path / "program.py"))

    assert asyncio.run(main()) == "hello\n"
    files = [aiortc.directory / "tests" / name for name in ("test_rtcicetransport.py", "test_ortc.py")]
    assert aiortc.unittest([name for file in files for name, _ in written_in(file)]) == set()


SIGNALING: Final = """
import asyncio
import threading

from ice_tcp.compat import aioice as ours

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
peer = ours.Connection(ice_controlling=False)
asyncio.run_coroutine_threadsafe(peer.gather_candidates(), loop).result()


def send_local_info(candidates, username, password):
    async def answer():
        for candidate in candidates:
            await peer.add_remote_candidate(candidate)
        await peer.add_remote_candidate(None)
        peer.remote_username, peer.remote_password = username, password
        await peer.connect()
        data, component = await peer.recvfrom()
        await peer.sendto(data[::-1], component)

    asyncio.run_coroutine_threadsafe(answer(), loop)


def get_remote_info():
    return peer.local_candidates, peer.local_username, peer.local_password

"""
"""What aioice's README leaves to its reader: the other side is in a thread, and turns round what it hears."""


def test_what_the_readme_of_aioice_shows(aioice: Place, tmp_path: Path) -> None:
    text = (aioice.directory / "README.rst").read_text("utf-8")
    (indented,) = re.findall(r"^\.\. code:: python\n\n((?: {4}.*\n|\n)+)", text, re.MULTILINE)
    snippet = re.sub(*AIOICE_IMPORT, textwrap.dedent(indented), flags=re.MULTILINE)
    shown = "data, component = await connection.recvfrom()"
    assert snippet.count(shown) == 1
    program = tmp_path / "snippet.py"
    program.write_text(SIGNALING + snippet.replace(shown, f"{shown}; print(data, component)"), "utf-8")

    async def main() -> str:
        return await finish(await aioice.start(program))

    assert asyncio.run(main()) == "b'4321' 1\n"

"""One cell's world, built: namespaces with addresses, routes and rules, and the process that is the internet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ice_tcp.signaling.channel import MAX_MESSAGE_BYTES
from interop.natlab.internet import READY, Order
from interop.natlab.kinds import LabError
from interop.natlab.namespaces import batch, create, delete, run, set_kernel
from interop.natlab.nursery import Child, nursery
from interop.natlab.scenario import Scenario
from interop.natlab.topology import LAN, Node, Topology, plan

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_TIMEOUT: Final = 5.0
_LINK_TIMEOUT: Final = 5.0
_FOREVER: Final = 3_600_000
"""Milliseconds that no cell takes."""


class World:
    """Use it with ``async with``; then `nodes` are there, and packets flow.

    ``name`` makes a namespace's name of a node's; ``directory`` is where the internet writes its packet log at the end.
    """

    def __init__(self, scenario: Scenario, directory: Path, name: Callable[[str], str]) -> None:
        self.topology: Topology = plan(scenario, name)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log_zero: float | None = None
        """Set it to the instant (`time.monotonic`) that the packet log shall count from."""
        self._seed = scenario.seed
        self._internet: asyncio.subprocess.Process | None = None

    @property
    def nodes(self) -> dict[str, Node]:
        return self.topology.nodes

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(create, [node.namespace for node in self.nodes.values()])
            await self._start_internet()
            await asyncio.to_thread(self._wire)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    def reboot(self, side: str) -> None:
        """Let the boxes of a site forget every mapping and connection."""
        for box in self.topology.boxes[side]:
            run("conntrack", "-F", namespace=box.namespace)
            if "map mapped" in box.ruleset:
                run("nft", "flush", "map", "ip", "nat", "mapped", namespace=box.namespace)
                run("nft", "flush", "set", "ip", "nat", "contacted", namespace=box.namespace)

    def cut(self, side: str, other: str) -> None:
        """Let nothing through that a site sends straight to another one; what goes by a server still gets there."""
        targets = [f"{'ip6' if ':' in each else 'ip'} daddr {each} drop" for each in self.topology.public(other)]
        chain = "\n".join(["type filter hook forward priority -10", *targets])
        for box in self.topology.boxes[side]:
            run("nft", "-f", "-", text=f"table inet cut {{\nchain forward {{\n{chain}\n}}\n}}", namespace=box.namespace)

    def mend(self, side: str) -> None:
        """Undo `cut`."""
        for box in self.topology.boxes[side]:
            run("nft", "delete", "table", "inet", "cut", namespace=box.namespace)

    async def fork(self, node: str) -> Child:
        """Start an agent's process on a node, with pipes; the caller ends it."""
        return await nursery().fork(self.nodes[node].namespace, self._errors(node))

    async def spawn(self, node: str, *command: str) -> asyncio.subprocess.Process:
        """Start a program on a node, with pipes; the caller ends it."""
        with self._errors(node).open("wb") as errors:
            return await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", self.nodes[node].namespace, *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                limit=MAX_MESSAGE_BYTES,
                cwd=_ROOT,
            )

    def last_words(self, node: str) -> str:
        """The last line of what a program on a node said about its end."""
        lines = self._errors(node).read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "it did not say why"

    def _errors(self, node: str) -> Path:
        return self.directory / f"{node}.err"

    async def _start_internet(self) -> None:
        self._internet = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "interop.natlab.internet"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        order = Order(tuple(self.topology.attachments), self._seed, str(self.directory))
        assert self._internet.stdin is not None and self._internet.stdout is not None
        self._internet.stdin.write(order.to_json().encode() + b"\n")
        if await self._internet.stdout.readline() != f"{READY}\n".encode():
            raise LabError("the internet did not start; its error stands above")

    def _wire(self) -> None:
        lines = []
        for cable in self.topology.cables:
            (one, name), (other, other_name) = cable.one, cable.other
            lines.append(f"link add name {name} netns {one} type veth peer name {other_name} netns {other}")
        batch(lines)
        for node in self.nodes.values():
            _configure(node)
        for node in self.nodes.values():
            if node.bridged and node.has_ipv6:
                _wait_for_link(node, LAN)

    async def _close(self) -> None:
        if self._internet is not None and self._internet.returncode is None:
            assert self._internet.stdin is not None
            if self.log_zero is not None:
                self._internet.stdin.write(f"{self.log_zero}\n".encode())
            self._internet.stdin.close()
            try:
                await asyncio.wait_for(self._internet.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                self._internet.kill()
                await self._internet.wait()
        await asyncio.to_thread(delete, [node.namespace for node in self.nodes.values()])


def _wait_for_link(node: Node, interface: str) -> None:
    """The kernel looks at links once a second, and sends no IPv6 before it has seen that one is up."""
    deadline = time.monotonic() + _LINK_TIMEOUT
    while "state UP" not in run("ip", "-n", node.namespace, "link", "show", interface):
        if time.monotonic() > deadline:
            raise LabError(f"{interface} of {node.namespace} does not come up")
        time.sleep(0.02)


def _configure(node: Node) -> None:
    if not node.has_ipv6:
        node.kernel["net/ipv6/conf/all/disable_ipv6"] = 1
    set_kernel(node.namespace, node.kernel)
    lines = ["link set lo up"]
    if node.bridged:
        lines.append(f"link add name {LAN} type bridge")
    for port in node.bridged:
        lines += [f"link set {port} master {LAN}", f"link set {port} up"]
    for interface, addresses in node.addresses.items():
        for address in addresses:
            lines.append(f"addr add {address} dev {interface}" + (" nodad" if ":" in address else ""))
        # No link-local addresses: nothing but what the cell is about shall be on the line.
        lines += [f"link set {interface} addrgenmode none", f"link set {interface} up"]
    if node.bridged and node.has_ipv6:
        # To ask again whether a neighbour is there, a router wants a link-local address; so it need not ask.
        lines.append(f"ntable change name ndisc_cache dev {LAN} delay_probe {_FOREVER}")
    lines += [f"route add {everywhere} {way}" for everywhere, way in node.default.items()]
    batch(lines, node.namespace)
    if node.ruleset:
        run("nft", "-f", "-", text=node.ruleset, namespace=node.namespace)

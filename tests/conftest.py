"""What tests share by name, and what they tell beyond pass and fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop.natlab.namespaces import Run, batch, create
from interop.natlab.requirements import missing
from interop.natlab.scenario import ServerKind

SUMMARY = pytest.StashKey[list[str]]()
"""Lines that a test wants to stand at the end of the run: what the simulator met, and how often."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.write_sep("-", "simulator")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def run() -> Iterator[Run]:
    """A run of the NAT lab, whose namespaces are gone afterwards; a failure where the machine cannot run it."""
    if lacking := missing(ServerKind.COTURN):
        pytest.fail(f"the lab needs: {lacking}")
    with Run() as run:
        yield run


@pytest.fixture
def lone_host(run: Run) -> str:
    """The namespace of a host with addresses, and with nobody around."""
    name = run.name("host")
    create([name])
    addresses = ("192.0.2.10/24", "2001:db8::10/64 nodad")
    lines = ["link add eth0 type veth peer name eth1", *(f"addr add {each} dev eth0" for each in addresses)]
    batch([*lines, *(f"link set {each} up" for each in ("lo", "eth0", "eth1"))], name)
    return name

"""Who may import whom: the table, and a checker that reads the syntax tree of every module.

Each rule is there for a reason: knowledge and protocol do no I/O and replay from a seed, the driver is the only
place where they meet the network, and what is public is what outsiders use.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("candidates", "ice_tcp", "interop")

PROTOCOL: Final = ("ice_tcp.errors", "ice_tcp.stun", "ice_tcp.framing", "ice_tcp.datapath")
FACADE: Final = ("ice_tcp.agent", "ice_tcp.stream", "ice_tcp.quic", "ice_tcp.punching")
NEWS: Final = ("ice_tcp.core.events", "ice_tcp.core.outcomes", "ice_tcp.core.trace", "ice_tcp.core.verdicts")
SERVICES: Final = (
    "ice_tcp.signaling",
    "ice_tcp.transfer",
    "ice_tcp.diagnose",
    "ice_tcp.mdns",
)

LAYERS: Final[Mapping[str, tuple[str, ...]]] = {
    "candidates": (),
    "ice_tcp.errors": (),
    "ice_tcp.stun": ("ice_tcp.errors",),
    "ice_tcp.framing": ("ice_tcp.errors", "ice_tcp.stun"),
    "ice_tcp.datapath": ("ice_tcp.errors", "ice_tcp.stun", "ice_tcp.framing"),
    "ice_tcp.core": (*PROTOCOL, "candidates"),
    "ice_tcp.net": ("ice_tcp.errors", "ice_tcp.framing", "ice_tcp.datapath", "ice_tcp.core.commands", "candidates"),
    "ice_tcp.capsule": ("ice_tcp.core", "candidates"),
    "ice_tcp.driver": (
        *("ice_tcp.errors", "ice_tcp.core", "ice_tcp.capsule", "ice_tcp.net", "ice_tcp.datapath", "candidates"),
    ),
    **dict.fromkeys(
        FACADE,
        (*FACADE, *NEWS, *("ice_tcp.errors", "ice_tcp.capsule", "ice_tcp.driver", "ice_tcp.net", "candidates")),
    ),
    "ice_tcp.punching": (*NEWS, "ice_tcp.errors", "ice_tcp.stun", "ice_tcp.driver", "ice_tcp.net", "candidates"),
    "ice_tcp.policy_file": ("candidates",),
    "ice_tcp.policy_option": ("ice_tcp.policy_file", "candidates"),
    "ice_tcp.metrics": (*FACADE, *NEWS, "ice_tcp.stun", "ice_tcp.server", "ice_tcp.rendezvous"),
    "ice_tcp.operation": ("ice_tcp.metrics", "ice_tcp.policy_file", "ice_tcp.policy_option", "candidates"),
    "ice_tcp.tracefile": (*NEWS, "ice_tcp.core.exchanges", "candidates"),
    "ice_tcp": (
        *FACADE,
        *NEWS,
        "ice_tcp.capsule",
        *("ice_tcp.errors", "ice_tcp.policy_file", "ice_tcp.tracefile", "ice_tcp.meeting", "candidates"),
    ),
    **dict.fromkeys(SERVICES, (*FACADE, *NEWS, "ice_tcp.errors", "ice_tcp.stun", "ice_tcp.net", "candidates")),
    "ice_tcp.compat": (*FACADE, *NEWS, "ice_tcp.errors", "ice_tcp.mdns", "candidates"),
    "ice_tcp.server": (*PROTOCOL, "ice_tcp.net", "ice_tcp.operation", "ice_tcp.policy_option", "candidates"),
    "ice_tcp.rendezvous": ("ice_tcp.errors", "ice_tcp.operation", "ice_tcp.policy_option", "candidates"),
    "ice_tcp.meeting": (
        *FACADE,
        *NEWS,
        "ice_tcp.errors",
        "ice_tcp.capsule",
        "ice_tcp.rendezvous",
        "ice_tcp.signaling",
        "ice_tcp.transfer",
        "ice_tcp.policy_option",
        "ice_tcp.tracefile",
        "candidates",
    ),
    "ice_tcp.report": (
        *NEWS,
        "ice_tcp.core.exchanges",
        "ice_tcp.stun",
        "ice_tcp.tracefile",
        "ice_tcp.gather",
        "candidates",
    ),
    "ice_tcp.gather": (*FACADE, *NEWS, "ice_tcp.capsule", "candidates"),
    "ice_tcp.demo": (
        *FACADE,
        *NEWS,
        *("ice_tcp", "ice_tcp.errors", "ice_tcp.net", "ice_tcp.signaling", "ice_tcp.transfer", "ice_tcp.gather"),
        *("ice_tcp.server", "ice_tcp.capsule", "candidates"),
    ),
    "ice_tcp.cli": (
        *PROTOCOL,
        *FACADE,
        *SERVICES,
        "ice_tcp.compat",
        *(
            "ice_tcp",
            "ice_tcp.capsule",
            "ice_tcp.demo",
            "ice_tcp.gather",
            "ice_tcp.core",
            "ice_tcp.net",
            "ice_tcp.driver",
            "ice_tcp.server",
            "ice_tcp.report",
            "ice_tcp.policy_file",
            "ice_tcp.policy_option",
            "ice_tcp.tracefile",
        ),
        *("candidates", "interop"),
    ),
    "interop": (
        *FACADE,
        *SERVICES,
        "ice_tcp.compat",
        *NEWS,
        *("ice_tcp", "ice_tcp.errors", "ice_tcp.stun", "ice_tcp.server", "ice_tcp.tracefile"),
        *("ice_tcp.report", "candidates"),
        "ice_tcp.core.exchanges",
    ),
}
"""For each room the others that it may import; every room may import itself. A row covers the modules below it,
except that "ice_tcp" is only the package itself, so that a new module needs a row of its own."""

NO_IO: Final = frozenset(
    {"asyncio", "concurrent", "datetime", "logging", "multiprocessing", "os", "pathlib", "secrets", "select"}
    | {"selectors", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time"}
)
FORBIDDEN: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("candidates", *PROTOCOL), NO_IO | {"random"}),
    "ice_tcp.core": NO_IO,
}
"""What rooms without I/O may not import of the standard library; the core takes ``random`` for the type only."""


def violations(module: str, source: str, modules: Collection[str]) -> list[str]:
    """What breaks a rule in the source of a module, as ``module:line: what``; ``modules`` are all those of ours."""
    room = _room_of(module)
    if room is None:
        return [f"{module}:1: no row in LAYERS"]
    tree = ast.parse(source)
    found = []
    for line, name in _imports(tree, module, modules):
        if name.partition(".")[0] in PACKAGES:
            target = _room_of(name)
            if target != room and not any(_covers(allowed, name) for allowed in LAYERS[room]):
                found.append((line, f"{room} may not import {name}"))
        elif name.partition(".")[0] in FORBIDDEN.get(room, ()):
            found.append((line, f"{room} may not import {name}"))
    if room in FORBIDDEN:
        found += _opened_files(tree)
        found += _uses_of_random(tree)
    return [f"{module}:{line}: {what}" for line, what in sorted(found)]


def _covers(row: str, module: str) -> bool:
    return module == row or (row != "ice_tcp" and module.startswith(f"{row}."))


def _room_of(module: str) -> str | None:
    return max((row for row in LAYERS if _covers(row, module)), key=len, default=None)


def _imports(tree: ast.Module, module: str, modules: Collection[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, modules)
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                yield node.lineno, submodule if submodule in modules else source


def _absolute(node: ast.ImportFrom, module: str, modules: Collection[str]) -> str:
    if not node.level:
        return node.module or ""
    # A package's own level is itself, a module's is the package around it.
    is_package = any(other.startswith(f"{module}.") for other in modules)
    parents = module.split(".")
    base = parents[: len(parents) - node.level + is_package]
    return ".".join([*base, node.module] if node.module else base)


def _opened_files(tree: ast.Module) -> list[tuple[int, str]]:
    return [
        (node.lineno, "opens a file")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]


def _uses_of_random(tree: ast.Module) -> list[tuple[int, str]]:
    """Every use of the module ``random`` that is not the name of the type ``random.Random``."""
    found = []
    harmless = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="random", names=names) if any(alias.name != "Random" for alias in names):
                found.append((node.lineno, "random is for the type only"))
            case ast.Import(names=names) if any(alias.name == "random" and alias.asname for alias in names):
                found.append((node.lineno, "random is imported under its own name"))
            case ast.Attribute(value=ast.Name(id="random") as name, attr="Random"):
                harmless.add(name)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="random") if node not in harmless:
                found.append((node.lineno, "random is for the type only"))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random") | ast.Name(id="Random")):
                found.append((node.lineno, "random is for the type only"))
    return found


def _sources() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


SOURCES: Final = _sources()


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_to_its_room(module: str) -> None:
    assert violations(module, SOURCES[module].read_text(encoding="utf-8"), SOURCES) == []


def test_every_room_in_a_row_has_a_row() -> None:
    assert [entry for allowed in LAYERS.values() for entry in allowed if _room_of(entry) is None] == []


def test_the_checker_sees_the_packages() -> None:
    assert {"candidates.candidate", "ice_tcp", "ice_tcp.core.commands"} <= SOURCES.keys()


MODULES: Final = (
    "ice_tcp",
    "ice_tcp.core",
    "ice_tcp.core.agent",
    "ice_tcp.core.commands",
    "ice_tcp.stun",
    "candidates",
)


@pytest.mark.parametrize(
    ("module", "source", "what"),
    [
        ("ice_tcp.brand_new", "", "1: no row in LAYERS"),
        ("candidates.sdp", "import ice_tcp.stun", "1: candidates may not import ice_tcp.stun"),
        ("candidates.sdp", "from ice_tcp import stun", "1: candidates may not import ice_tcp.stun"),
        ("candidates.policy.model", "import os.path", "1: candidates may not import os.path"),
        ("candidates.policy.model", "from random import Random", "1: candidates may not import random"),
        ("candidates.policy.model", "text = open('default.yaml').read()", "1: opens a file"),
        ("ice_tcp.stun.message", "from candidates.candidate import Candidate", "1: ice_tcp.stun may not import"),
        ("ice_tcp.framing", "import ice_tcp.datapath", "1: ice_tcp.framing may not import ice_tcp.datapath"),
        ("ice_tcp.core.agent", "\nimport asyncio", "2: ice_tcp.core may not import asyncio"),
        ("ice_tcp.core.agent", "from time import monotonic", "1: ice_tcp.core may not import time"),
        ("ice_tcp.core.agent", "def f():\n    import socket", "2: ice_tcp.core may not import socket"),
        ("ice_tcp.core.agent", "from ice_tcp.net import sockets", "1: ice_tcp.core may not import ice_tcp.net"),
        ("ice_tcp.core.agent", "from ..net import sockets", "1: ice_tcp.core may not import ice_tcp.net"),
        ("ice_tcp.core", "from ..net import sockets", "1: ice_tcp.core may not import ice_tcp.net"),
        ("ice_tcp.core.agent", "from ice_tcp import Agent", "1: ice_tcp.core may not import ice_tcp"),
        ("ice_tcp.core.agent", "if TYPE_CHECKING:\n    import ice_tcp.driver", "2: ice_tcp.core may not import"),
        ("ice_tcp.core.agent", "from random import randint", "1: random is for the type only"),
        ("ice_tcp.core.agent", "import random as r", "1: random is imported under its own name"),
        ("ice_tcp.core.agent", "import random\nx = random.random()", "2: random is for the type only"),
        ("ice_tcp.core.agent", "import random\nx = random.Random(1)", "2: random is for the type only"),
        ("ice_tcp.core.agent", "from random import Random\nx = Random()", "2: random is for the type only"),
        ("ice_tcp.core.agent", "import random\nrng = random", "2: random is for the type only"),
        (
            "ice_tcp.net.sockets",
            "from ice_tcp.core.agent import Agent",
            "1: ice_tcp.net may not import ice_tcp.core.agent",
        ),
        ("ice_tcp.net.sockets", "from ice_tcp.core import agent", "1: ice_tcp.net may not import ice_tcp.core.agent"),
        ("ice_tcp.agent", "import ice_tcp.core.agent", "1: ice_tcp.agent may not import ice_tcp.core.agent"),
        ("ice_tcp.signaling.client", "import ice_tcp.cli", "1: ice_tcp.signaling may not import ice_tcp.cli"),
        ("ice_tcp.report", "import ice_tcp.core.agent", "1: ice_tcp.report may not import ice_tcp.core.agent"),
        ("interop.bench.udp", "import ice_tcp.core.agent", "1: interop may not import ice_tcp.core.agent"),
        ("interop.bench.udp", "import ice_tcp.brand_new", "1: interop may not import ice_tcp.brand_new"),
    ],
)
def test_planted_violations_are_found(module: str, source: str, what: str) -> None:
    (found,) = violations(module, source, MODULES)
    assert found.startswith(f"{module}:{what}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("candidates.sdp", "import re\nfrom candidates.candidate import Candidate\nfrom . import parameters"),
        ("ice_tcp.core.agent", "import random\ndef f(rng: random.Random) -> None: rng.random()"),
        ("ice_tcp.core.agent", "from random import Random\ndef f(rng: Random) -> None: rng.random()"),
        ("ice_tcp.core.agent", "from ice_tcp import stun\nfrom .commands import Close\nfrom candidates import sdp"),
        ("ice_tcp.net.sockets", "import os, socket\nfrom ice_tcp.core.commands import Failure\nopen('/dev/null')"),
        ("ice_tcp.driver", "import asyncio\nfrom ice_tcp.core.agent import Agent\nimport ice_tcp.net.sockets"),
        ("ice_tcp", "from ice_tcp.agent import Agent\nfrom ice_tcp.core.events import Role"),
        (
            "ice_tcp.cli",
            "import ice_tcp\nimport ice_tcp.core.agent\nimport ice_tcp.signaling.client\nimport random as r",
        ),
        ("interop.bench.udp", "import random\nfrom ice_tcp import Agent, stun\nx = random.random()"),
    ],
)
def test_what_is_allowed_is_not_reported(module: str, source: str) -> None:
    assert violations(module, source, MODULES) == []

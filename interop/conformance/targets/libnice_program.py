"""libnice as a target: a program of its own, which a Python with GObject bindings runs (Debian: gir1.2-nice-0.1).

It is also the example of `docs/conformance.md`: it needs nothing of ice-tcp, and whoever has an agent in another
language writes the same in that. The protocol is lines of JSON, here answered on GLib's main loop.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
from collections import deque
from typing import Any

import gi  # type: ignore[import-not-found, unused-ignore]  # of the system's Python

gi.require_version("Nice", "0.1")
from gi.repository import GLib, Nice  # type: ignore[import-not-found, unused-ignore]  # noqa: E402

CAPABILITIES = ("udp", "tcp-active", "tcp-passive", "components", "ipv6", "trickle", "restart", "lite", "turn")
# It asks STUN servers as RFC 3489 has it, without a magic cookie, and those of the cases know RFC 8489 only.
RECEIVER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
)
LIBRARY = ctypes.CDLL(ctypes.util.find_library("nice") or "libnice.so.10")
LIBRARY.nice_agent_attach_recv.argtypes = (
    *(ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, RECEIVER, ctypes.c_void_p),
)
LIBRARY.nice_agent_get_selected_pair.argtypes = (
    *(ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
)
LIBRARY.nice_agent_generate_local_candidate_sdp.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
LIBRARY.nice_agent_generate_local_candidate_sdp.restype = ctypes.c_char_p
LIBRARY.nice_agent_send.argtypes = (ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """What is answered as an error."""


class Later(Exception):  # noqa: N818 - it is no error
    """The answer comes when something has happened."""


class Agent:
    """One agent, and the questions that wait for something to happen to it."""

    def __init__(self) -> None:
        self.nice: Any = None
        self.setup: dict[str, Any] = {}
        self.stream = 0
        self.states: dict[int, int] = {}
        self.inboxes: dict[int, deque[bytes]] = {}
        self.gathered = False
        self.waiting: list[dict[str, Any]] = []
        self.receiver = RECEIVER(self.received)

    # -- what is asked for

    def create(self, question: dict[str, Any]) -> None:
        self.setup = question
        options = Nice.AgentOption.REGULAR_NOMINATION | Nice.AgentOption.CONSENT_FRESHNESS
        if question["lite"]:
            options |= Nice.AgentOption.LITE_MODE
        self.nice = Nice.Agent.new_full(
            GLib.MainContext.default(), Nice.Compatibility.RFC5245, options | Nice.AgentOption.ICE_TRICKLE
        )
        self.nice.props.controlling_mode = question["controlling"]
        self.nice.props.upnp = False
        self.nice.props.ice_udp = "udp" in question["kinds"]
        self.nice.props.ice_tcp = any(kind.startswith("tcp") for kind in question["kinds"])
        address = Nice.Address()
        address.set_from_string(question["host"])
        self.nice.add_local_address(address)
        self.nice.connect("candidate-gathering-done", self.gathering_done)
        self.nice.connect("component-state-changed", self.state_changed)
        self.stream = self.nice.add_stream(question["components"])
        for component in range(1, question["components"] + 1):
            self.inboxes[component] = deque()
            for server in question["servers"]:
                if server["turn"]:
                    kind = Nice.RelayType.TCP if server["transport"] == "tcp" else Nice.RelayType.UDP
                    self.nice.set_relay_info(
                        *(self.stream, component, server["host"], server["port"]),
                        *(server["username"], server["password"], kind),
                    )
            LIBRARY.nice_agent_attach_recv(hash(self.nice), self.stream, component, None, self.receiver, None)

    def gather(self, _question: dict[str, Any]) -> dict[str, Any]:
        if not self.gathered:
            self.nice.gather_candidates(self.stream)
            if not self.gathered:
                raise Later
        return self.description()

    def set_remote(self, question: dict[str, Any]) -> None:
        if not self.nice.set_remote_credentials(self.stream, question["ufrag"], question["pwd"]):
            raise Refusal("these credentials are not accepted")

    def add_remote_candidate(self, question: dict[str, Any]) -> None:
        candidate = self.nice.parse_remote_candidate_sdp(self.stream, f"a={question['line']}")
        component = next((n for n in self.inboxes if question["line"].split(" ")[1:2] == [str(n)]), None)
        if candidate is not None and component is not None:
            self.nice.set_remote_candidates(self.stream, component, [candidate])

    def end_of_candidates(self, _question: dict[str, Any]) -> None:
        self.nice.peer_candidate_gathering_done(self.stream)

    def connect(self, _question: dict[str, Any]) -> None:
        states = [self.states.get(component, 0) for component in self.inboxes]
        if int(Nice.ComponentState.FAILED) in states:
            raise Refusal("a component has failed")
        if any(state != int(Nice.ComponentState.READY) for state in states):
            raise Later

    def send(self, question: dict[str, Any]) -> None:
        data = bytes.fromhex(question["data"])
        sent = LIBRARY.nice_agent_send(hash(self.nice), self.stream, question["component"], len(data), data)
        if sent != len(data):
            raise Refusal(f"{sent} bytes were sent")

    def receive(self, question: dict[str, Any]) -> dict[str, str]:
        inbox = self.inboxes[question["component"]]
        if not inbox:
            raise Later
        return {"data": inbox.popleft().hex()}

    def selected_pair(self, question: dict[str, Any]) -> list[str] | None:
        pair = (ctypes.c_void_p(), ctypes.c_void_p())
        found = LIBRARY.nice_agent_get_selected_pair(
            hash(self.nice), self.stream, question["component"], *map(ctypes.byref, pair)
        )
        if not found:
            return None
        lines = [LIBRARY.nice_agent_generate_local_candidate_sdp(hash(self.nice), each) for each in pair]
        return [line.decode().removeprefix("a=") for line in lines]

    def restart(self, _question: dict[str, Any]) -> dict[str, Any]:
        self.nice.restart_stream(self.stream)
        return self.description()

    # -- what happens

    def gathering_done(self, _agent: Any, _stream: int) -> None:
        self.gathered = True
        self.look_again()

    def state_changed(self, _agent: Any, _stream: int, component: int, state: int) -> None:
        self.states[component] = int(state)
        self.look_again()

    def received(self, _agent: int, _stream: int, component: int, size: int, data: int, _user: int | None) -> None:
        self.inboxes[component].append(ctypes.string_at(data, size))
        self.look_again()

    def look_again(self) -> None:
        """Answer what waited for what has just happened."""
        waiting, self.waiting = self.waiting, []
        for question in waiting:
            answer(self, question)

    # -- inside

    def description(self) -> dict[str, Any]:
        _, ufrag, pwd = self.nice.get_local_credentials(self.stream)
        candidates = [
            self.line(candidate)
            for component in self.inboxes
            for candidate in self.nice.get_local_candidates(self.stream, component)
        ]
        return {
            "ufrag": ufrag,
            "pwd": pwd,
            "lite": self.setup["lite"],
            "candidates": list(filter(self.wanted, candidates)),
        }

    def line(self, candidate: Any) -> str:
        text: str = self.nice.generate_local_candidate_sdp(candidate)
        return text.removeprefix("a=")

    def wanted(self, line: str) -> bool:
        """Active and passive candidates come together, and the case may have asked for one kind only."""
        fields = line.split(" ")
        kind = "udp" if fields[2].lower() == "udp" else f"tcp-{fields[fields.index('tcptype') + 1]}"
        return kind in self.setup["kinds"]


def answer(agent: Agent, question: dict[str, Any]) -> None:
    """Answer a question, now or when its time has come."""
    told: dict[str, Any] = {"id": question["id"]}
    try:
        told["result"] = getattr(agent, question["do"].replace("-", "_"))(question)
    except Later:
        agent.waiting.append(question)
        return
    except Refusal as refusal:
        told["error"] = str(refusal)
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked must hear of it
        told["error"] = f"{type(error).__name__}: {error}"
    say(told)


def say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def main() -> None:
    say({"name": "libnice", "version": _version(), "capabilities": CAPABILITIES})
    loop = GLib.MainLoop()
    agent = Agent()
    rest = bytearray()

    def readable(_source: int, _condition: int) -> bool:
        data = os.read(sys.stdin.fileno(), 65_536)
        if not data:
            loop.quit()
            return False
        rest.extend(data)
        *lines, unfinished = rest.split(b"\n")
        rest[:] = unfinished
        for line in lines:
            answer(agent, json.loads(line))
        return True

    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, readable)
    loop.run()


def _version() -> str:
    """As Debian's package says; the library does not tell."""
    command = ["dpkg-query", "-W", "-f", "${Version}", "libnice10"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing of others in it
    return run.stdout.partition("-")[0] or "unknown"


if __name__ == "__main__":
    main()

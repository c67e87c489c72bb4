from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure
from ice_tcp.net.sockets import (
    FAILURES,
    LEASES,
    NetworkError,
    bind_connector,
    bind_listener,
    bind_udp,
    failure_of,
    scope_of,
    share_port,
    socket_address,
    transport_address,
)

HOST = "127.0.0.1"


@pytest.fixture
def free_port() -> int:
    """A TCP and UDP port of HOST that nobody uses."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((HOST, 0))
        port = int(tcp.getsockname()[1])
        udp.bind((HOST, port))
        return port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program has bound for TCP and UDP, ready to share it."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        share_port(tcp)
        tcp.bind((HOST, 0))
        tcp.listen()
        udp.bind(tcp.getsockname())
        yield int(tcp.getsockname()[1])


# Addresses


def test_socket_addresses_of_both_families() -> None:
    assert socket_address(TransportAddress("192.0.2.1", 5)) == ("192.0.2.1", 5)
    assert socket_address(TransportAddress("2001:db8::1", 5)) == ("2001:db8::1", 5, 0, 0)


def test_a_link_local_address_has_its_own_zone_or_the_sockets() -> None:
    lo = socket.if_nametoindex("lo")
    assert socket_address(TransportAddress("fe80::1%lo", 5)) == ("fe80::1", 5, 0, lo)
    assert socket_address(TransportAddress("fe80::1", 5), scope=7) == ("fe80::1", 5, 0, 7)
    assert socket_address(TransportAddress("2001:db8::1", 5), scope=7) == ("2001:db8::1", 5, 0, 0)


def test_addresses_that_no_socket_takes() -> None:
    with pytest.raises(NetworkError) as caught:
        socket_address(TransportAddress("fe80::1%no-such-link", 5))
    assert caught.value.failure is Failure.ADDRESS_UNAVAILABLE
    with pytest.raises(NetworkError) as caught:
        socket_address(TransportAddress("peer.local", 5))
    assert caught.value.failure is Failure.UNREACHABLE


def test_a_peer_is_named_without_zone() -> None:
    assert transport_address(("fe80::1%lo", 5, 0, 1)) == TransportAddress("fe80::1", 5)


def test_the_scope_of_a_socket_is_that_of_its_address() -> None:
    with bind_udp("::1", None) as sock:
        assert scope_of(sock) == 0
    with bind_udp(HOST, None) as sock:
        assert scope_of(sock) == 0


# Causes


@pytest.mark.parametrize(("code", "failure"), FAILURES.items())
def test_every_known_errno_has_its_failure(code: int, failure: Failure) -> None:
    assert failure_of(code) is failure


def test_an_unknown_errno_is_other() -> None:
    assert failure_of(errno.EXDEV) is Failure.OTHER
    assert failure_of(None) is Failure.OTHER


# Ports


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_any_port(host: str) -> None:
    for bind in (bind_udp, bind_listener):
        with bind(host, None) as sock:
            assert sock.getsockname()[1] > 0
            assert not sock.getblocking()


def test_a_port_of_the_range(free_port: int) -> None:
    with bind_udp(HOST, (free_port, free_port)) as udp, bind_listener(HOST, (free_port, free_port)) as tcp:
        assert udp.getsockname() == tcp.getsockname() == (HOST, free_port)


def test_ports_in_use_are_passed_over(taken: int) -> None:
    with ExitStack() as stack:
        for bind in (bind_udp, bind_listener):
            port = stack.enter_context(bind(HOST, (taken, taken + 20))).getsockname()[1]
            assert taken < port <= taken + 20


def test_all_ports_taken_even_if_another_program_would_share(taken: int) -> None:
    for bind in (bind_udp, bind_listener):
        with pytest.raises(NetworkError) as caught:
            bind(HOST, (taken, taken))
        assert caught.value.failure is Failure.PORTS_TAKEN


def test_ports_are_tried_in_an_order_that_the_rng_chooses() -> None:
    ports = set()
    for seed in range(5):
        with bind_udp(HOST, (41000, 41999), random.Random(seed)) as sock:
            ports.add(sock.getsockname()[1])
    assert len(ports) == 5


def test_an_address_of_another_machine_is_unavailable() -> None:
    for bind in (bind_udp, bind_listener):
        with pytest.raises(NetworkError) as caught:
            bind("192.0.2.77", None)
        assert caught.value.failure is Failure.ADDRESS_UNAVAILABLE


def test_connectors_share_the_port_of_a_listener_which_still_accepts() -> None:
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(bind_listener(HOST, None)) for _ in range(2))
        dialling, elsewhere = (stack.enter_context(bind_connector(HOST, listener)) for listener in (ours, None))
        assert dialling.getsockname() == ours.getsockname()
        assert elsewhere.getsockname()[1] != ours.getsockname()[1]
        for sock in (ours, dialling, elsewhere):
            sock.setblocking(True)
        dialling.connect(theirs.getsockname())
        elsewhere.connect(ours.getsockname())
        accepted, remote = ours.accept()
        with closing(accepted):
            assert remote == elsewhere.getsockname()


def test_a_port_that_past_connections_hold_is_used_if_no_other_is_free() -> None:
    listener = bind_listener(HOST, None)
    port = listener.getsockname()[1]
    with bind_connector(HOST, None) as dialling:
        dialling.setblocking(True)
        dialling.connect((HOST, port))
        listener.setblocking(True)
        accepted, _ = listener.accept()
    listener.close()
    with closing(accepted), bind_listener(HOST, (port, port)) as again:
        assert again.getsockname() == (HOST, port)


def test_but_not_if_the_connections_are_still_ours() -> None:
    listener = bind_listener(HOST, None)
    port = listener.getsockname()[1]
    with bind_connector(HOST, listener):
        listener.close()
        LEASES.take(HOST, port)
        try:
            with pytest.raises(NetworkError) as caught:
                bind_listener(HOST, (port, port))
            assert caught.value.failure is Failure.PORTS_TAKEN
        finally:
            LEASES.release(HOST, port)
    assert (HOST, port) not in LEASES


def test_leases_are_counted() -> None:
    place = (HOST, 1)
    LEASES.take(*place)
    LEASES.take(*place)
    LEASES.release(*place)
    assert place in LEASES
    LEASES.release(*place)
    assert place not in LEASES

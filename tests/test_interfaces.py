from __future__ import annotations

import netifaces
import pytest

from candidates.candidate import InterfaceAddress
from ice_tcp.net.interfaces import host_addresses

V4, V6 = netifaces.AF_INET, netifaces.AF_INET6


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[int, list[dict[str, str]]]]:
    """A machine without addresses and with its default routes on eth0; fill in its addresses."""
    addresses: dict[str, dict[int, list[dict[str, str]]]] = {}
    monkeypatch.setattr(netifaces, "interfaces", lambda: list(addresses))
    monkeypatch.setattr(netifaces, "ifaddresses", lambda interface: addresses[interface])
    monkeypatch.setattr(
        netifaces, "gateways", lambda: {"default": {V4: ("192.0.2.1", "eth0"), V6: ("fe80::1", "eth0")}}
    )
    return addresses


def test_this_host_has_its_loopback_address() -> None:
    assert InterfaceAddress("lo", "127.0.0.1") in host_addresses()


def test_the_default_route_marks_global_addresses_of_its_interface(machine: dict[str, object]) -> None:
    machine["eth0"] = {V4: [{"addr": "192.0.2.2"}], V6: [{"addr": "2001:db8::2"}, {"addr": "fe80::2%eth0"}]}
    machine["wlan0"] = {V4: [{"addr": "198.51.100.2"}]}
    assert host_addresses() == [
        InterfaceAddress("eth0", "192.0.2.2", default_route=True),
        InterfaceAddress("eth0", "2001:db8::2", default_route=True),
        InterfaceAddress("eth0", "fe80::2%eth0"),
        InterfaceAddress("wlan0", "198.51.100.2"),
    ]


def test_link_local_addresses_carry_their_zone(machine: dict[str, object]) -> None:
    machine["eth1"] = {V6: [{"addr": "fe80::3"}]}
    assert host_addresses() == [InterfaceAddress("eth1", "fe80::3%eth1")]


def test_the_same_link_local_address_on_two_interfaces_is_two_addresses(machine: dict[str, object]) -> None:
    machine["eth1"] = {V6: [{"addr": "fe80::3"}]}
    machine["eth2"] = {V6: [{"addr": "fe80::3"}]}
    assert [address.host for address in host_addresses()] == ["fe80::3%eth1", "fe80::3%eth2"]


UNUSABLE = ["", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:192.0.2.1", "nonsense", "1.2.3"]  # noqa: S104 - none is bound


@pytest.mark.parametrize("host", UNUSABLE)
def test_unusable_entries_are_left_out(machine: dict[str, object], host: str) -> None:
    machine["eth0"] = {V4: [{"addr": host}, {"netmask": "255.0.0.0"}, {"addr": "192.0.2.2"}]}
    assert [address.host for address in host_addresses()] == ["192.0.2.2"]


def test_an_interface_without_ip_and_a_repeated_address(machine: dict[str, object]) -> None:
    machine["ifb0"] = {netifaces.AF_PACKET: [{"addr": "02:00:00:00:00:01"}]}
    machine["eth1"] = {V4: [{"addr": "192.0.2.9"}, {"addr": "192.0.2.9"}]}
    assert host_addresses() == [InterfaceAddress("eth1", "192.0.2.9")]


def test_no_default_route(machine: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netifaces, "gateways", dict)
    machine["eth0"] = {V4: [{"addr": "192.0.2.2"}]}
    assert host_addresses() == [InterfaceAddress("eth0", "192.0.2.2")]


def test_an_interface_that_goes_while_we_look_is_left_out(
    machine: dict[str, dict[int, list[dict[str, str]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(interface: str) -> dict[int, list[dict[str, str]]]:
        if interface == "lo":
            raise ValueError("You must specify a valid interface name.")
        return machine[interface]

    monkeypatch.setattr(netifaces, "ifaddresses", gone)
    assert "lo" not in {address.interface for address in host_addresses()}

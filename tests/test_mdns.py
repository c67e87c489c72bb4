"""Names under .local, asked for and answered on the loopback."""

from __future__ import annotations

import sys
from functools import partial

import pytest
from zeroconf.asyncio import AsyncZeroconf

from ice_tcp.mdns import MdnsNames, is_mdns_name
from tests.loops import run

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", partial(AsyncZeroconf, interfaces=[HOST]))


@pytest.mark.parametrize("host", ["abc.local", "ABC-1.local.", "3f2504e0-4f89-41d3-9a0c-0305e82c3301.local"])
def test_what_is_looked_up(host: str) -> None:
    assert is_mdns_name(host)


@pytest.mark.parametrize("host", ["local", ".local", "a.b.local", "abc.local.example.org", "a_b.local", "192.0.2.1"])
def test_what_is_not(host: str) -> None:
    assert not is_mdns_name(host)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_a_published_name_stands_for_its_address(address: str) -> None:
    async def main() -> None:
        ours, theirs = MdnsNames(), MdnsNames()
        name = ours.publish(address)
        assert is_mdns_name(name)
        assert address not in name
        assert ours.publish(address) == name
        assert await theirs.resolve(name) == address
        assert await theirs.resolve(f"{name}.") == address
        await ours.close()
        await theirs.close()

    run(main())


def test_each_address_and_each_publisher_has_its_own_name() -> None:
    async def main() -> None:
        names = MdnsNames(), MdnsNames()
        told = [each.publish(address) for each in names for address in ("192.0.2.7", "192.0.2.8")]
        assert len(set(told)) == 4
        for each in names:
            await each.close()

    run(main())


def test_nobody_knows_a_name_that_is_no_longer_published() -> None:
    async def main() -> None:
        ours, theirs = MdnsNames(), MdnsNames()
        name = ours.publish("192.0.2.7")
        await ours.close()
        assert await theirs.resolve(name, 0.2) is None
        await theirs.close()
        await theirs.close()

    run(main())


def test_without_zeroconf_nothing_is_looked_up_and_nothing_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf.asyncio", None)

    async def main() -> None:
        names = MdnsNames()
        assert await names.resolve("abc.local") is None
        assert "pip install 'ice-tcp[mdns]'" in caplog.text
        with pytest.raises(ModuleNotFoundError, match="zeroconf is missing"):
            names.publish("192.0.2.7")
        await names.close()

    run(main())


def test_without_a_link_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link() -> None:
        raise OSError("no such device")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", no_link)

    async def main() -> None:
        names = MdnsNames()
        assert await names.resolve("abc.local") is None
        with pytest.raises(OSError, match="no such device"):
            names.publish("192.0.2.7")

    run(main())

"""A headless browser as one end of an exchange: ``python -m interop.peers.browser_peer chromium``.

It speaks JSON lines on its standard streams; the page runs `peer.js`. The plan, its first line, has ``offers`` and
``camera``. Run it in a namespace: the browser offers every address that it finds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

_SCRIPT: Final = Path(__file__).with_name("peer.js").read_text("utf-8")
_POLL_INTERVAL: Final = 0.01
_CHROMIUM_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # With a camera that may be used, candidates have addresses and no names, and there are TCP candidates.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
_FIREFOX_PREFERENCES: Final[dict[str, Any]] = {
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.peerconnection.ice.tcp": True,
    "media.peerconnection.ice.tcp_so_sock_count": 1,
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
}
_START: Final = """
const [plan] = arguments;
window.outbox = [];
const inbox = [], waiting = [];
window.take = (message) => (waiting.length ? waiting.shift()(message) : inbox.push(message));
const signal = {
  send: (message) => window.outbox.push(message),
  receive: () => new Promise((resolve) => (inbox.length ? resolve(inbox.shift()) : waiting.push(resolve))),
};
(async () => {
  const camera = await navigator.mediaDevices.getUserMedia({ video: true });
  await runPeer(new RTCPeerConnection({ iceServers: [] }), signal, plan, plan.camera ? camera : null);
})().catch((error) => window.outbox.push({ type: "failed", error: String(error) }));
"""


class Browser(Protocol):
    """What is needed of a driver."""

    def open(self, url: str) -> None: ...
    def run(self, script: str, *arguments: Any) -> Any: ...


class Chromium:
    """Over WebDriver."""

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in _CHROMIUM_FLAGS:
            options.add_argument(flag)
        self._driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))

    def open(self, url: str) -> None:
        self._driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(script, *arguments)

    def show_as(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a window of so many CSS pixels, on a device with this taste."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        taste = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": taste})

    def complaints(self) -> list[str]:
        """What stands in the console."""
        entries: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(each["message"]) for each in entries]

    def screenshot(self, file: str) -> None:
        """Write what the page looks like, a PNG."""
        self._driver.save_screenshot(file)

    def close(self) -> None:
        self._driver.quit()


class Firefox:
    """Over Marionette."""

    def __init__(self, profile: str) -> None:
        from marionette_driver.marionette import Marionette

        self._driver = Marionette(
            bin="/usr/bin/firefox-esr",
            headless=True,
            prefs=_FIREFOX_PREFERENCES,
            workspace=profile,
            gecko_log=str(Path(profile, "gecko.log")),
            port=0,
        )
        self._driver.start_session()

    def open(self, url: str) -> None:
        self._driver.navigate(url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(script, script_args=arguments, sandbox=None, new_sandbox=False)

    def close(self) -> None:
        self._driver.quit()


class _Page(BaseHTTPRequestHandler):
    """An empty page of this machine: only there may scripts use a camera."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>peer</title>")

    def log_message(self, *_arguments: Any) -> None: ...


@contextmanager
def page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def main(name: str) -> None:
    """Be one end."""
    orders: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(line)
        orders.put(None)

    plan = json.loads(sys.stdin.readline())
    threading.Thread(target=read, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile, page() as url:
        browser = Chromium() if name == "chromium" else Firefox(profile)
        try:
            browser.open(url)
            browser.run(f"{_SCRIPT}\n{_START}", plan)
            _relay(browser, orders)
        finally:
            browser.close()


def _relay(browser: Browser, orders: SimpleQueue[str | None]) -> None:
    """Carry messages until the page has closed, or the other end is gone."""
    while True:
        for message in browser.run("return window.outbox.splice(0)"):
            print(json.dumps(message), flush=True)
            if message["type"] in ("closed", "failed"):
                return
        try:
            line = orders.get(timeout=_POLL_INTERVAL)
        except Empty:
            continue
        if line is None:
            return
        browser.run("window.take(arguments[0])", json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1])

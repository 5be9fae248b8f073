"""Control a headless Chromium over a DevTools pipe, without driver or package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "open_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """Page of a headless browser that collects errors and requests.

    Attributes:
        complaints: Console messages, script errors, violations of the content security policy.
        requests: Requested URLs, except the page and `data:` URLs.
    """

    def __init__(self, path: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="headstart-chromium-")
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        # The browser reads from descriptor 3 and writes to descriptor 4.
        shell = f'exec {path!r} "$@" 3<&{to_read} 4>&{from_write}'
        arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
                     "--disable-background-networking", f"--user-data-dir={self._folder}", "about:blank")  # fmt: skip
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "chromium", *arguments],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        self._in, self._out = os.fdopen(to_write, "wb"), from_read
        self._buffer = b""
        self._number = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = 0
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Send a command and return its response."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._in.write(json.dumps(message).encode() + b"\0")
        self._in.flush()
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def page(self, method: str, **params: Any) -> Any:
        """Send a command to the page and return its response."""
        return self.call(method, self._session, **params)

    def open(self, path: Path, *, size: tuple[int, int] = (1280, 900), scheme: str = "light") -> None:
        """Open a file at the given window size."""
        self.complaints.clear()
        self.requests.clear()
        width, height = size
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        before = self._loaded
        self.page("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 60
        while self._loaded == before:
            assert time.monotonic() < deadline, "the page did not load"
            self._next()

    def run(self, script: str) -> Any:
        """Return the value of a script run in the page."""
        result = self.page("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.page("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def close(self) -> None:
        """Close the browser."""
        self._in.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._out, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str([a.get("value") for a in params["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("text")))
        elif method == "Log.entryAdded":
            self.complaints.append(str(params["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith("data:") and params.get("type") != "Document":
                self.requests.append(address)
        return message


def open_browser() -> Browser:
    """Return a browser, or skip the test with a reason."""
    named = os.environ.get("HEADSTART_CHROMIUM")
    path = named or next((p for p in map(shutil.which, _NAMES) if p), None)
    if path is None:
        pytest.skip("no Chromium is installed (HEADSTART_CHROMIUM names one)")
    return Browser(path)

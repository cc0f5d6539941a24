"""Chromium without a screen, spoken to through its debugging pipe: needs nothing but the program itself.

Debian's and Ubuntu's package is `chromium` (`apt-get install chromium`); tests that need it are skipped without it.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe "
    "--autoplay-policy=no-user-gesture-required --force-color-profile=srgb"
).split()
PATIENCE_S = 90


def find_chromium() -> str | None:
    """The browser's path, or None."""
    return next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


class Page:
    """A page in the browser. What it logs as an error, or throws, is gathered in `errors`."""

    def __init__(self, process: subprocess.Popen, write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._held, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict:
        """Send a command and return its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            answer = self._next(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
        raise TimeoutError(method)

    def _next(self, end: float) -> dict:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            got = os.read(self._read, 1 << 20)
            assert got, "the browser has ended"
            self._held += got
        text, _, self._held = self._held.partition(b"\0")
        message = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))

    def view(self, width: int, height: int, *, dots: float = 1, dark: bool = True, phone: bool = False) -> None:
        """Set the window's size, its pixels per CSS pixel, and what the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=dots, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, path: Path) -> None:
        """Open a file, and wait until its videos can be shown."""
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.until("document.readyState === 'complete' && typeof state === 'object'")
        self.until("active().every(([v]) => v.readyState >= 2 && !v.seeking)")

    def eval(self, script: str) -> object:
        """Return an expression's value; waits for it if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.eval(script):
                return
            time.sleep(0.05)
        raise TimeoutError(script)

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """Send a mouse event: mousePressed, mouseMoved, mouseReleased or mouseWheel."""
        held = {} if kind == "mouseWheel" else {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **(held | more))

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse from one point to another."""
        self.mouse("mousePressed", *begin)
        for i in range(1, 6):
            self.mouse("mouseMoved", *(a + (b - a) * i / 5 for a, b in zip(begin, end, strict=True)))
        self.mouse("mouseReleased", *end)

    def key(self, name: str, text: str = "") -> None:
        """Press and release a key."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def picture(self, path: Path) -> Path:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium, and end it."""
    program = find_chromium()
    assert program is not None
    to_it, from_it = os.pipe(), os.pipe()

    def wire() -> None:  # the browser reads from 3 and writes to 4
        os.dup2(to_it[0], 13), os.dup2(from_it[1], 14)
        os.dup2(13, 3), os.dup2(14, 4)

    with tempfile.TemporaryDirectory(prefix="chromium_", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_it[0])
        os.close(from_it[1])
        try:
            yield Page(process, to_it[1], from_it[0])
        finally:
            os.close(to_it[1])
            os.close(from_it[0])
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

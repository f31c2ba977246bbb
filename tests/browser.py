"""A headless Chromium for tests, driven over its remote-debugging pipe by the standard library alone.

The DevTools protocol is JSON between NUL bytes: the browser reads file descriptor 3 and writes 4.
Keys pressed here go through the browser's input pipeline as a keyboard's would.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT = 60.0
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # the only page ever opened is ours; containers have no user namespaces
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
)
KEYS = {  # name: (code, Windows key code, text)
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    " ": ("Space", 32, " "),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}
SHIFT = 8


def find_browser():
    """The path of a Chromium, or None: $CHROMIUM names one, else the first of the usual names."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Browser:
    """One Chromium process with a profile of its own; use as a context manager."""

    def __init__(self, executable):
        self.profile = tempfile.mkdtemp(prefix="fanin-browser-")
        reader, self.write_to = os.pipe()
        self.read_from, writer = os.pipe()
        # away from 3 and 4, where the child wants them
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reader, writer)]
        os.close(reader)
        os.close(writer)
        launch = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        command = [executable, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", launch, *map(str, ends), *command],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        self.pages, self.sent, self.unread = {}, 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self.command("Browser.close")
        except (OSError, RuntimeError):
            self.process.kill()
        self.process.wait(TIMEOUT)
        os.close(self.write_to)
        os.close(self.read_from)
        shutil.rmtree(self.profile, ignore_errors=True)

    def command(self, method, session=None, **parameters):
        """Send one command and wait for its result; events that come meanwhile go to their pages."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.write_to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def receive(self, deadline):
        """The next message; an event is also handed to its page."""
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.read_from], [], [], max(deadline - time.monotonic(), 0))
            chunk = os.read(self.read_from, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("the browser does not answer")
            self.unread += chunk
        text, _, self.unread = self.unread.partition(b"\0")
        message = json.loads(text)
        if "method" in message and message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].take(message["method"], message["params"])
        return message

    def open(self, url, width=1280, height=900, dark=False):
        """A page at ``url``, loaded."""
        return Page(self, url, width, height, dark)


class Page:
    """One tab.  ``problems``: console errors and exceptions; ``requests``: every URL it asked for."""

    def __init__(self, browser, url, width, height, dark):
        self.browser, self.problems, self.requests, self.loaded = browser, [], [], False
        target = browser.command("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.command("Target.attachToTarget", targetId=target, flatten=True)
        self.session, self.target = attached["sessionId"], target
        browser.pages[self.session] = self
        for domain in ("Runtime", "Log", "Network", "Page", "Accessibility"):
            self.command(f"{domain}.enable")
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.loaded = False  # about:blank was, too
        self.command("Page.navigate", url=url)
        deadline = time.monotonic() + TIMEOUT
        while not self.loaded:
            browser.receive(deadline)

    def command(self, method, **parameters):
        return self.browser.command(method, self.session, **parameters)

    def take(self, method, event):
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(str(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(event["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def close(self):
        self.browser.command("Target.closeTarget", targetId=self.target)

    def resize(self, width, height):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def evaluate(self, expression):
        """The JSON value of a JavaScript expression; a promise is awaited."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key, times=1, shift=False):
        """Press a key of ``KEYS`` or a character, as a keyboard would."""
        code, number, text = KEYS.get(key, ("", ord(key[0].upper()), key))
        held = {"modifiers": SHIFT} if shift else {}
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number} | held
        for _ in range(times):
            kind = "keyDown" if text else "rawKeyDown"
            self.command(
                "Input.dispatchKeyEvent", type=kind, **about, **({"text": text} if text else {})
            )
            self.command("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path, whole=True):
        """Write a PNG of the page, or of the window."""
        clip = {}
        if whole:
            size = self.command("Page.getLayoutMetrics")["cssContentSize"]
            clip = {
                "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            }
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))


def run_javascript(sources, expression):
    """The JSON value of ``expression`` after ``sources``: in Node if it is here, else in the browser.

    Returns None where neither is installed.  Doubles survive the way in both directions.
    """
    node, chromium = shutil.which("node"), find_browser()
    program = "\n".join(sources)
    if node:
        program += f"\nprocess.stdout.write(JSON.stringify({expression}));"
        done = subprocess.run([node, "-"], input=program, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)
    if chromium:
        with Browser(chromium) as browser:
            page = browser.open("about:blank")
            return json.loads(page.evaluate(f"{program}\nJSON.stringify({expression})"))
    return None

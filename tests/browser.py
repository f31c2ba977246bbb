"""The system's Chromium for tests, driven by Playwright."""

import functools
import json
import os
import shutil
import subprocess

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--no-sandbox", "--force-color-profile=srgb")  # containers have no user namespaces


def find_browser():
    """The path of a Chromium, or None: $CHROMIUM names one, else the first of the usual names."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Browser:
    """One Chromium; use as a context manager."""

    def __init__(self, executable):
        self.executable = executable

    def __enter__(self):
        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(
            executable_path=self.executable, args=list(FLAGS)
        )
        return self

    def __exit__(self, *error):
        self.chromium.close()
        self.playwright.stop()

    def open(self, url, width=1280, height=900, dark=False):
        """Playwright's page at ``url``, loaded.

        It also has ``problems``, its errors and warnings, and ``requests``, every address it asked for.
        """
        page = self.chromium.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            is_mobile=width < 600,
        )
        page.problems, page.requests = [], []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", functools.partial(_complain, page.problems))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(url)
        return page


def _complain(problems, message):
    if message.type in ("error", "warning", "assert"):
        problems.append(message.text)


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
            page.add_script_tag(content=program)
            return json.loads(page.evaluate(f"JSON.stringify({expression})"))
    return None

"""The HTML page in a real browser: no error in its console, everything drawn, nothing wider than a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from optimizer.report.html import html
from tests.report.results import bare, full

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
)
PROBE = """<script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 50).length;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ink = getComputedStyle(document.querySelector("svg text")).fill;
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.title = `seen=${seen} dark=${dark} ink=${ink} wide=${wide}`;
});
</script></body>"""

FRAME = """<title></title><iframe width=390 height=900 style="border: 0" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const inner = document.querySelector("iframe").contentDocument, root = inner.documentElement;
  const cut = [...inner.querySelectorAll(".cards .scroll")].filter(box => box.scrollWidth > box.clientWidth).length;
  document.title = `width=${{root.clientWidth}} page=${{root.scrollWidth}} cut=${{cut}}`;
}});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


def browse(folder: Path, *flags: str) -> tuple[str, str]:
    """The title that the probe leaves, and what the browser logged."""
    page = folder / "page.html"
    page.write_text(html([full(), bare()]).replace("</body>", PROBE))
    return dump(folder, page, *flags)


def dump(folder: Path, page: Path, *flags: str) -> tuple[str, str]:
    command = [BROWSER or "", *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    return found.group(1), done.stderr


def test_the_page_opens_without_an_error_and_shows_its_pictures(tmp_path: Path) -> None:
    title, log = browse(tmp_path, "--window-size=1200,2000")
    assert "seen=5" in title
    assert "wide=false" in title
    assert "CONSOLE" not in log


def test_in_the_dark_the_pictures_text_is_light(tmp_path: Path) -> None:
    title, log = browse(tmp_path, "--blink-settings=preferredColorScheme=0", "--window-size=1200,2000")
    assert "dark=true" in title
    red = re.search(r"ink=rgb\((\d+)", title)
    assert red is not None
    assert int(red.group(1)) > 200
    assert "CONSOLE" not in log


def test_on_a_phone_nothing_sticks_out(tmp_path: Path) -> None:
    """The browser's own window is never so narrow, so the page stands in a frame."""
    (tmp_path / "frame.html").write_text(FRAME.format(page=escape(html([full(), bare()]))))
    title, log = dump(tmp_path, tmp_path / "frame.html", "--hide-scrollbars")
    assert title == "width=390 page=390 cut=0"
    assert "CONSOLE" not in log

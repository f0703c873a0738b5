"""The documentation: nothing in it is loaded from elsewhere, and what it shows runs as shown."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from medvision.commands.conf_text import compose_keys, list_groups

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SMALLER = ("data.reader.size=[32,32]", "data.batch_size=16", "data.min_steps=1", "data.workers=1",
           "trainer.max_epochs=2", "threads=1")  # fmt: skip
LISTEN = """<script>addEventListener("load", () => setTimeout(() => {
    const names = performance.getEntriesByType("resource").map((entry) => entry.name);
    document.body.dataset.loaded = JSON.stringify(names);
}, 1000))</script>"""


@pytest.fixture
def hosts():
    """What docs/hosts.py defines."""
    pytest.importorskip("mkdocs")
    return runpy.run_path(str(DOCS / "hosts.py"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script defer src="https://cdn.example/x.js"></script>'),
        ("a.html", "<link rel=stylesheet href=//fonts.example/css>"),
        ("a.html", '<img alt="" src="http://example.org/x.png">'),
        ("a.css", "@font-face {src: url(https://fonts.example/x.woff2)}"),
        ("assets/javascripts/a.js", 'fetch("https://api.example/v1")'),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(name, text, tmp_path, hosts):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    (found,) = hosts["find_loads"](tmp_path)
    assert found.startswith(f"{name}: ")
    assert "example" in found


def test_links_and_own_files_are_no_loads(tmp_path, hosts):
    (tmp_path / "a.html").write_text(
        '<a href="https://hydra.cc">Hydra</a><script src="x.js"></script><img src="../x.png">'
    )
    (tmp_path / "x.js").write_text('node.setAttribute("xmlns", "http://www.w3.org/2000/svg")')
    assert [*hosts["find_loads"](tmp_path)] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as `make docs` builds them, with warnings as errors."""
    pytest.importorskip("mkdocs")
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return place


def read(page):
    return unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_the_pages_hold_what_they_are_made_of(site):
    settings = "\n".join(read(page) for page in (site / "settings").glob("*.html"))
    keys = [key for key in compose_keys([]) if "." in key and not key.endswith("_partial_")
            and not key.startswith("data.source.")]  # fmt: skip
    assert [key for key in keys if not re.search(rf"\b{re.escape(key)}\b", settings)] == []
    for group, choices in list_groups().items():
        page = read(site / "settings" / f"{group}.html")
        assert [choice for choice in choices if f"{group}={choice}" not in page] == []
    front = read(site / "index.html")
    assert "survives a reviewer" in front
    assert (site / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "random change of training batches" in read(site / "api" / "data.batches.html")
    assert "order matter" in read(site / "studies" / "order_matters.html")
    assert 'title="src/' not in (site / "how_to" / "own_net.html").read_text()


@pytest.fixture(scope="module")
def served(site):
    """The address of a server of the pages."""
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.html", "how_to/own_net.html", "api/nets.html"])
def test_a_browser_asks_no_other_host(name, site, served):
    loaded = list_loaded(name, site, served, "")
    assert any(url.endswith(".css") for url in loaded)
    assert [url for url in loaded if not url.startswith(served)] == []
    foreign = "https://example.org/x.png"
    assert foreign in list_loaded(name, site, served, f"<img src={foreign}>")  # it would be seen


def list_loaded(name, site, served, more):
    """Return the addresses that a browser loads for a page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium")
    page = site / name
    page.with_name("listening.html").write_text(
        page.read_text().replace("</body>", f"{more}{LISTEN}</body>")
    )
    address = f"{served}{Path(name).with_name('listening.html')}"
    done = subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--virtual-time-budget=5000", f"--user-data-dir={site.parent / 'profile'}", address],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (loaded,) = re.findall(r'data-loaded="([^"]*)"', done.stdout)
    return json.loads(unescape(loaded))


def read_blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_first_hour_runs_as_written_from_an_empty_folder(tmp_path, monkeypatch, medvision):
    monkeypatch.chdir(tmp_path)
    for name in ("MEDVISION_RUNS", "MEDVISION_CACHE"):
        monkeypatch.delenv(name)
    lines = [line for block in read_blocks("first_hour.md", "bash") for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line)[1:]
        small = {"prepare": ("patients=40", "slices=4", "size=32", "difficulty=0"),
                 "train": SMALLER}.get(words[0], ())  # fmt: skip
        done = medvision(*words, *small)
        assert done.status == 0, (line, done.err)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 161
    assert len([*(tmp_path / "runs").glob("*/*/report.html")]) == 5
    assert len(lines) == 9


@pytest.mark.slow
@pytest.mark.usefixtures("as_read")
def test_own_loops_run_as_written():
    script = "\n".join(read_blocks("how_to/own_loop.md", "python"))
    told = {}
    exec(re.sub(r"\b10\b", "1", script).replace("size=(96, 96)", "size=(32, 32)"), told)
    assert "val/auroc" in told["scores"][0]
    assert torch.isfinite(told["loss"])
    assert len(told["table"]) == 160
    assert 0 <= told["auroc"]["value"] <= 1

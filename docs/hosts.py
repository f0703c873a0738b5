"""The built pages load nothing from another host: a hook of mkdocs, which fails where one would."""

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

LOADS = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|input)\b[^>]*?\ssrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b[^>]*?\shref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)"
)
# In scripts; languages are named by addresses of www.w3.org, which nobody fetches.
ADDRESS = re.compile(r"[\"'`]((?:https?|wss?):)?//(?!www\.w3\.org/)[\w-]+\.[\w.-]+[/\"'`]")
# In the theme's script: diagrams, facts of a repository, a help for browsers from before 2020.
UNUSED = re.compile(r"https://(?:unpkg\.com|api\.github\.com|gitlab\.com)/")


def on_post_build(config: MkDocsConfig) -> None:
    """Take the addresses of what no page uses out of the scripts; refuse all that is left."""
    site = Path(config.site_dir)
    for path in site.glob("assets/javascripts/**/*.js"):
        path.write_text(UNUSED.sub("", path.read_text("utf-8")), "utf-8")
    if found := [*find_loads(site)]:
        raise PluginError("pages load from other hosts: " + "; ".join(found[:5]))


def find_loads(site: Path) -> Iterator[str]:
    """Yield file and address of what a browser would fetch from elsewhere."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]):
        for match in LOADS.finditer(path.read_text("utf-8")):
            yield f"{path.relative_to(site)}: {next(filter(None, match.groups()))}"
    for path in sorted(site.rglob("*.js")):
        for match in ADDRESS.finditer(path.read_text("utf-8")):
            if path.name != "search_index.js":  # text of the pages
                yield f"{path.relative_to(site)}: {match[0]}"

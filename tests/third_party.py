"""Write the table of packages in THIRD_PARTY.md from their own metadata: `make licences`.

What the lock leaves out is fetched into a temporary folder, without what it depends on.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "THIRD_PARTY.md"
HEAD = ["| package | version | for | licence, as its metadata say |", "|---|---|---|---|"]
SHORT = 40  # a longer licence field is the text itself


def read_wanted() -> dict[str, str]:
    """Package → what it is for, of all that pyproject.toml names."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = content["project"], content["dependency-groups"]
    sections = {"medvision": project["dependencies"]}
    sections |= {f"`[{name}]`": some for name, some in project["optional-dependencies"].items()}
    sections |= {"development": groups["dev"], "documentation": groups["docs"]}
    named = [
        (re.split(r"[^\w.-]", text)[0], what) for what, some in sections.items() for text in some
    ]
    return dict(named)


def read_lock() -> dict[str, str]:
    """Package → the pinned version, or versions where Pythons differ."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        pins.setdefault(name, []).append(version)
    return {name: " or ".join(versions) for name, versions in pins.items()}


def read_metadata(folders: list[str]) -> dict[str, Any]:
    """Package → its metadata, of what lies in some folders."""
    return {re.sub(r"[-_.]+", "-", d.name).lower(): d.metadata for d in distributions(path=folders)}


def tell_licence(metadata: Message) -> str:
    """Return the expression, else the short name, else what the classifier says."""
    kinds = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License :: OSI")]
    said = (metadata.get("License") or "").strip()
    named = "" if said == "UNKNOWN" or "\n" in said or len(said) > SHORT else said
    classified = ", ".join(kind.rpartition(" :: ")[2] for kind in kinds)
    return metadata.get("License-Expression") or named or classified or "not said"


def list_rows(found: dict[str, Any]) -> dict[str, str]:
    """Package → its line, of those whose metadata were found."""
    lock = read_lock()
    return {
        name: f"| {name} | {lock.get(name, 'not locked')} | {what} | {tell_licence(found[name])} |"
        for name, what in read_wanted().items()
        if name in found
    }


def find_uv() -> str:
    """Find uv beside the interpreter, as `make` puts it there, or on the path."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("uv", path=places) or "uv"


def main() -> None:
    """Replace what stands between the markers of the page."""
    with TemporaryDirectory() as folder:
        missing = sorted(read_wanted().keys() - read_metadata(sys.path).keys())
        if missing:
            options = ["--quiet", "--no-deps", "--python", sys.executable, "--target", folder]
            subprocess.run([find_uv(), "pip", "install", *options, *missing], check=True)
        rows = list_rows(read_metadata([*sys.path, folder]))
    table = "\n".join([*HEAD, *rows.values()])
    text = PAGE.read_text(encoding="utf-8")
    pattern = r"(<!-- packages -->\n).*?(\n<!-- /packages -->)"
    PAGE.write_text(re.sub(pattern, lambda m: f"{m[1]}\n{table}\n{m[2]}", text, flags=re.DOTALL),
                    encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main()

"""Pages of the documentation that are made from other files when it is built, a hook of mkdocs.

README and its like are included as they stand; settings come from `conf/`, the API from docstrings.
"""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from medvision.commands.conf_text import Key, describe, list_groups, read_choice, read_file
from medvision.files import conf_folder

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "medvision"
INCLUDED = {  # of the project → of the site
    "README.md": "index.md",
    "README.zh-CN.md": "zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "THIRD_PARTY.md": "third_party.md",
    "experiments/README.md": "studies/index.md",
} | {
    f"experiments/{page.parent.name}/README.md": f"studies/{page.parent.name}.md"
    for page in sorted(ROOT.glob("experiments/*/README.md"))
}
SOURCES = {place: source for source, place in INCLUDED.items()}
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> None:
    """Fill the parts of the navigation that are lists of files."""
    filled = {
        "Settings": [f"settings/{name}.md" for name in ("index", *list_groups(), "tune")],
        "API": ["api/index.md", *(f"api/{name}.md" for name in list_packages())],
        "Studies": [place for place in INCLUDED.values() if place.startswith("studies/")],
    }
    for part in config.nav or []:
        part.update({title: pages for title, pages in filled.items() if title in part})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages, and the files that included pages lead to."""
    pages = {place: (ROOT / source).read_text("utf-8") for source, place in INCLUDED.items()}
    pages["studies/index.md"] = f"---\nhide: [toc]\n---\n\n{pages['studies/index.md']}"
    pages |= dict(write_settings()) | dict(write_api())
    for place, content in pages.items():
        files.append(File.generated(config, place, content=content))
    written = (f"docs/{file.src_uri}" for file in files.documentation_pages())
    sources = [source for source in (*INCLUDED, *written) if (ROOT / source).exists()]
    for path in dict.fromkeys(path for source in sources for path in list_files(source)):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))


def list_files(source: str) -> Iterator[str]:
    """Yield the files of the project that a page leads to and that are no pages of the site."""
    text = (ROOT / source).read_text("utf-8")
    for target in dict.fromkeys(match[2] for match in LINK.finditer(text)):
        path = normpath(join(dirname(source), target))
        if path not in INCLUDED and not path.startswith("docs/") and (ROOT / path).is_file():
            yield path


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead the links of the project's files to their places on the site; name files over code."""
    place = page.file.src_uri
    source = SOURCES.get(place, f"docs/{place}")

    def lead(match: re.Match[str]) -> str:
        path = normpath(join(dirname(source), match[2]))
        there = INCLUDED.get(path, path.removeprefix("docs/"))
        if not (ROOT / path).exists():
            return match[0]
        target = relpath(there, dirname(place) or ".")
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    text = LINK.sub(lead, markdown) if (ROOT / source).exists() else markdown
    return re.sub(r"^```(\w+) (\S+)$", r'```\1 title="\2"', text, flags=re.MULTILINE)


def write_settings() -> Iterator[tuple[str, str]]:
    """Yield a page a group of `conf/`, and one of the keys on top."""
    top = [key for key in read_file(conf_folder() / "train.yaml").keys
           if not key.name.startswith("hydra")]  # fmt: skip
    yield "settings/index.md", SETTINGS + write_table(top)
    for group, choices in list_groups().items():
        parts = [f"# {group}\n"]
        whole = [c for c in choices if not read_file(conf_folder() / group / f"{c}.yaml").defaults]
        parts += [write_choice(group, choice) for choice in dict.fromkeys([*whole, *choices])]
        yield f"settings/{group}.md", "\n".join(parts)
    tune = read_file(conf_folder() / "tune.yaml")
    yield "settings/tune.md", f"# tune\n\n{' '.join(tune.head[1:])}\n\n{write_table(tune.keys)}"


def write_choice(group: str, choice: str) -> str:
    """Write a choice as a table, or as it stands if it changes a few keys of others."""
    path = conf_folder() / group / f"{choice}.yaml"
    said = read_file(path)
    head = [line for line in said.head if not line.startswith("@package")]
    lines = [f"## {group}={choice}\n", *(f"{write_line(line)}  " for line in head), ""]
    if said.defaults:
        shown = path.read_text("utf-8").splitlines()[len(said.head) :]
        return "\n".join([*lines, "```yaml", *shown, "```", ""])
    keys = read_choice(group, choice)
    return "\n".join([*lines, ""]) + write_table(
        [key._replace(comment=describe(name, keys)) for name, key in keys.items()]
    )


def write_line(line: str) -> str:
    """Write a line of a comment; a command in it as code."""
    return f"`{line}`" if re.search(r"\bmedvision (train|tune)\b", line) else escape(line)


def write_table(keys: list[Key]) -> str:
    """Write keys, their values and what they are; what Hydra alone needs is left out."""
    rows = ['<div class="keys" markdown>', "", "| key | value | |", "|---|---|---|"]
    for name, value, comment in keys:
        if not name.endswith("_partial_"):
            rows.append(f"| `{name}` | {f'`{value}`' if value else ''} | {escape(comment)} |")
    return "\n".join([*rows, "", "</div>", ""])


def escape(text: str) -> str:
    """Write text of a comment so that Markdown leaves it alone, but for its code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([|<*_\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def list_packages() -> list[str]:
    """List the packages of medvision that have modules, by dots, without the first."""
    folders = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    names = [".".join(folder.relative_to(PACKAGE).parts) for folder in folders]
    return [name or "medvision" for name in names]


def list_modules(package: str) -> list[str]:
    """List the modules of a package, by dotted paths; of the first the modules beside it."""
    parts = () if package == "medvision" else package.split(".")
    paths = sorted(PACKAGE.joinpath(*parts).glob("*.py"))
    stems = [path.stem for path in paths if not path.stem.startswith("_")]
    return [".".join(("medvision", *parts, stem)) for stem in stems]


def write_api() -> Iterator[tuple[str, str]]:
    """Yield a page a package, and one of what `import medvision` gives."""
    places: dict[str, str] = runpy.run_path(str(PACKAGE / "__init__.py"))["_PLACES"]
    rows = [
        f"| [`medvision.{name}`][{place}.{name}] | `{place}` |" for name, place in places.items()
    ]
    yield "api/index.md", "\n".join([API, *rows, ""])
    for package in list_packages():
        modules = "\n".join(f"::: {module}\n" for module in list_modules(package))
        yield f"api/{package}.md", f"# {package}\n\n{modules}"


SETTINGS = """# Settings

Every key of `conf/` with its comment, or what the docstring of its class says. A group is chosen by
`group=choice`, a key by `group.key=value`; `medvision train model=rnn --cfg job` prints what some
words compose. On top stand:

"""
API = """# API

`import medvision` gives these, and imports nothing before it is asked:

| name | from |
|---|---|"""

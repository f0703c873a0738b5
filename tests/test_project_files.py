"""The files beside the code say the same: version, authors, licence, and whose work is used."""

import hashlib
import re
import runpy
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_licence_is_the_whole_apache_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    words = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
    assert words == "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"


def test_the_citation_has_what_readers_of_it_need():
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(CITATION)
    named = [author["name"] for author in CITATION["authors"]]
    assert named == [author["name"] for author in PROJECT["authors"]] == ["The medvision authors"]


def test_versions_agree():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[([\d.]+)\]", changes, re.MULTILINE)[0]
    assert PROJECT["version"] == CITATION["version"] == newest == version("medvision")


def test_the_lock_names_no_host():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert not re.search(r"://|--index-url|--find-links|--trusted-host", lock)


def test_every_package_of_the_project_stands_in_the_table_of_licences():
    script = runpy.run_path(str(ROOT / "tests" / "third_party.py"))
    page = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"^\| ([\w.-]+) \| [^|]+ \| (?:medvision|`|development|documentation)", page, re.MULTILINE
    )
    assert listed == list(script["read_wanted"]())
    assert "not said" not in page
    here = script["list_rows"](script["read_metadata"](sys.path))
    assert len(here) > 20
    assert [line for line in here.values() if line not in page] == [], "run: make licences"


def test_a_licence_is_read_from_whatever_says_it():
    script = runpy.run_path(str(ROOT / "tests" / "third_party.py"))
    from email import message_from_string

    tell = script["tell_licence"]
    osi = "Classifier: License :: OSI Approved :: BSD License\n"
    assert tell(message_from_string("License-Expression: MIT\nLicense: other\n")) == "MIT"
    assert tell(message_from_string(f"License: BSD-3-Clause\n{osi}")) == "BSD-3-Clause"
    assert tell(message_from_string(f"License: UNKNOWN\n{osi}")) == "BSD License"
    assert tell(message_from_string(f"License: {'long text ' * 9}\n{osi}")) == "BSD License"
    assert tell(message_from_string("Name: x\n")) == "not said"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md"])
def test_links_inside_the_project_lead_somewhere(name):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    places = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [place for place in places if not (ROOT / place).exists()] == []

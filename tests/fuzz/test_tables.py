"""Tables and cards that say anything: a checked manifest, or one sentence; nothing in between."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import medvision.files as files
from medvision.data.manifest.card import Card
from medvision.data.manifest.columns import COLUMNS
from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.data.manifest.rules import SPLITS
from medvision.data.sources.label_table import read_sidecar
from medvision.data.sources.table import find as find_table

NAMES = ("a.png", "b c.png", "ü,x.png", "sub/d.png", "e'\".png")
ODD = st.sampled_from(
    ["", " ", "nan", "NaN", "None", "null", "3.0", "-1", "1e5", "0x1", "9" * 30, "inf", "1_0", "²",
     "٣", "\u200b", "\ufeff", "\xa0x", "a|b", "|", "é", "e\u0301", "\u2028", "\x00", "\x1a", '"',
     "a\nb", "=1+1", "C:\\d\\a.png", "../a.png", "/", ".", "~", "x" * 5000, "train", "TEST "]
)  # fmt: skip
ANY = st.text(max_size=12)
QUICK_OR_FULL = pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])


def explore(examples):
    """Settings under which a run repeats, and a loaded machine changes nothing."""
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def check_manifest(manifest, content):
    """What every accepted table keeps to, whatever it looked like."""
    table = manifest.table
    header, *records = [row for row in _records(content) if any(cell.strip() for cell in row)]
    assert len(table) == len(records)
    for name, cells in zip(map(str.strip, header), zip(*records, strict=True), strict=True):
        if name in manifest.carried:
            assert table[name].tolist() == list(cells)
        elif name in ("patient", "label", "series", "group") or name.startswith(("x_", "reader_")):
            assert table[name].tolist() == [cell.strip() for cell in cells]
    assert (table["path"] != "").all()
    assert (table["patient"] != "").all()
    assert (table["frame"] >= 0).all()
    assert set(table["split"]) <= {*SPLITS.values(), ""}
    assert set(table["origin"]) <= {"real", "generated"}
    assert all(path.is_file() for path in manifest.files())
    assert not table.duplicated(["path", "frame", "channel"]).any()
    assert table["frame"].dtype == np.int64
    assert len(manifest.digest) == 64


def _records(content):
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    first = text.lstrip().split("\n", 1)[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))


def read_twice(path, content):
    path.write_bytes(content)
    manifest = read_manifest(path)
    check_manifest(manifest, content)
    assert read_manifest(path).digest == manifest.digest
    found = find_table(path)
    assert len(found.table) == len(manifest.table)


@QUICK_OR_FULL
def test_any_bytes_for_a_table(folder, tally, full):
    starts = st.sampled_from([
        b"", b"path,patient\na.png,", b"path,patient,x_a\na.png,1,", b'"path","patient',
        b"\xef\xbb\xbfpath;patient\na.png;1\n", b"\xff\xfe", b"path\tpatient\r\na.png\t1\r\n",
    ])  # fmt: skip
    texts = st.one_of(ANY, st.text('\n\r,;\t" p\x001')).map(str.encode)

    @explore(700 if full else 50)
    @given(starts, st.one_of(st.binary(max_size=60), ANY.map(lambda t: t.encode("utf-16")), texts))
    def holds(start, rest):
        with tally.one("table, bytes", (start, rest)):
            read_twice(folder / "manifest.csv", start + rest)

    holds()


cells = st.one_of(ODD, ANY, st.integers().map(str), st.floats().map(repr))
carried = st.sampled_from(["reader_1", "x_a", "colour", "site", "group", "label", "series"])
columns = st.one_of(*[carried] * 8, st.sampled_from(COLUMNS), ODD)
rows = st.lists(
    st.tuples(st.one_of(*[st.sampled_from(NAMES)] * 7, cells), st.one_of(*[st.just("p1")] * 5, ANY),
              st.lists(cells, max_size=3)), min_size=1, max_size=3,
    unique_by=lambda row: row[0])  # fmt: skip


@QUICK_OR_FULL
def test_any_cells_in_a_table(folder, tally, full):
    @explore(900 if full else 60)
    @given(st.lists(columns, max_size=3, unique=True), rows, st.sampled_from(",;\t"),
           st.sampled_from(["utf-8"] * 4 + ["utf-8-sig", "latin-1", "utf-16"]),
           st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([1, 1, 1, 1, 1, 0]))  # fmt: skip
    def holds(extra, held, comma, encoding, end, even):
        lines = [["path", "patient", *extra]]
        for path, patient, rest in held:
            rest = (rest + [""] * len(extra))[: len(extra)] if even else rest
            lines.append([path, patient, *rest])
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=comma, lineterminator=end).writerows(lines)
        content = text.getvalue().encode(encoding, errors="replace")
        with tally.one("table, cells", (lines, comma, encoding, end)):
            read_twice(folder / "manifest.csv", content)

    holds()


words = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="|"), min_size=1, max_size=8
)
row = st.fixed_dictionaries({
    "path": st.sampled_from(NAMES), "frame": st.integers(0, 10**6), "patient": words,
    "label": st.one_of(st.just(""), words), "split": st.sampled_from(["", *SPLITS.values()]),
    "fold": st.integers(0, 9), "position_mm": st.floats(allow_nan=False, allow_infinity=False),
    "time_s": st.one_of(st.none(), st.floats(-1e3, 1e3)), "site": st.one_of(st.just(""), words),
    "x_score": words, "colour of hair": st.text(st.characters(codec="utf-8"), max_size=9),
})  # fmt: skip


@QUICK_OR_FULL
def test_a_valid_table_comes_back_as_it_was(folder, tally, full):
    @explore(250 if full else 12)
    @given(st.lists(row, min_size=1, max_size=6, unique_by=lambda r: (r["path"], r["frame"])),
           st.sampled_from([None, ["b", "a"]]), words)  # fmt: skip
    def holds(held, classes, dataset):
        table = pd.DataFrame(held)
        table["colour of hair"] = table["colour of hair"].str.replace("\r", "")
        card = Card(dataset, classes, facts={"odd": dataset})
        with tally.one("table, round trip", held):
            first = read_manifest(write_manifest(folder, table, card))
            for name in (name for name in table if name in first.table):
                was, now = table[name], first.table[name]
                same = (was == now) | (was.isna() & now.isna())
                assert same.all(), (name, was.tolist(), now.tolist())
            missing = set(table) - set(first.table)
            silent = table[list(missing)].fillna("").isin(["", 0])
            assert silent.all(axis=None)
            assert (first.card.dataset, first.card.classes) == (dataset, classes)
            again = read_manifest(write_manifest(folder, first.table, first.card))
            assert again.digest == first.digest
            pd.testing.assert_frame_equal(again.table, first.table)

    holds()


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY,
              st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY, inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
keys = st.sampled_from([*Card.__dataclass_fields__, "note"])


@QUICK_OR_FULL
def test_any_card_beside_a_table(folder, tally, full):
    (folder / "manifest.csv").write_text("path,patient,label\na.png,1,ill\n")
    texts = st.sampled_from([
        "", "[" * 20_000, "1" * 5000, "{", "NaN", "{}x", "\ufeff{}",
        '{"dataset": ' + "1" * 9999 + "}", '{"facts": {"a": 1e999}}',
    ])  # fmt: skip
    cards = st.one_of(st.dictionaries(keys, values, max_size=4), values).map(json.dumps)

    @explore(600 if full else 50)
    @given(st.one_of(texts, cards, cards))
    def holds(text):
        (folder / "card.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        with tally.one("card", text[:200]):
            manifest = read_manifest(folder)
            assert manifest.card.dataset
            write_manifest(folder / "copy", manifest.table, manifest.card)
            kept = {p.name for p in (folder / "copy").iterdir()}
            assert kept == {"manifest.csv", "card.json"}
        left = {path.name for path in folder.iterdir()}
        assert left <= {*(Path(n).parts[0] for n in NAMES), "manifest.csv", "card.json", "copy"}

    holds()


@QUICK_OR_FULL
def test_any_table_of_labels(folder, tally, full):
    @explore(300 if full else 40)
    @given(st.lists(st.sampled_from(["label", "series", "study", "patient", "x"]), max_size=3),
           st.lists(st.lists(cells, max_size=3), max_size=3))  # fmt: skip
    def holds(header, held):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([header, *held])
        files.write_bytes(folder / "labels.csv", text.getvalue().encode(errors="replace"))
        with tally.one("labels", (header, held)):
            sidecar = read_sidecar(folder / "labels.csv")
            assert sidecar.key in ("series", "study", "patient")
            assert set(sidecar.labels) == set(sidecar.ids.values()) - {""}

    holds()

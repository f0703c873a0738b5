import shutil

import pandas as pd
import pytest

from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.errors import MedvisionError
from medvision.files import write_json

HEADER = "path,patient,label,split"


def make(folder, text, name="manifest.csv", images="abcdef", encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    for image in images:
        (folder / f"{image}.png").write_bytes(b"")
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def refusal(path, columns=None):
    with pytest.raises(MedvisionError) as caught:
        read_manifest(path, columns)
    return str(caught.value)


def test_a_plain_manifest_is_normalised(tmp_path):
    path = make(tmp_path / "site", f"{HEADER}\n./a.png,007,x,train\nb.png,7,,\n")
    manifest = read_manifest(path)
    table = manifest.table
    assert list(table.index) == [0, 1]
    assert table["patient"].tolist() == ["007", "7"]
    assert table["path"].tolist() == ["a.png", "b.png"]
    assert table["label"].tolist() == ["x", ""]
    assert table["split"].tolist() == ["train", ""]
    assert table["series"].tolist() == table["channel"].tolist() == ["", ""]
    assert table["dataset"].tolist() == ["site", "site"]
    assert table["origin"].tolist() == ["real", "real"]
    assert table["frame"].tolist() == [0, 0]
    assert str(table["frame"].dtype) == "int64"
    assert not {"fold", "group", "position", "mask"} & set(table)
    assert manifest.files() == [path.parent / "a.png", path.parent / "b.png"]
    assert manifest.carried == []


def test_a_folder_stands_for_its_manifest(tmp_path):
    path = make(tmp_path / "d", f"{HEADER}\na.png,1,,\n")
    assert read_manifest(tmp_path / "d").path == path


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_line_ends_and_byte_order_marks_make_no_difference(
    tmp_path, separator, encoding
):
    text = f"{HEADER}\na.png,é1,x,val\nb.png,2,x,\n"
    plain = read_manifest(make(tmp_path / "plain", text))
    odd = text.replace(",", separator).replace("\n", "\r\n") + separator * 3 + "\r\n"
    other = read_manifest(make(tmp_path / "odd", odd, encoding=encoding))
    assert other.digest == plain.digest
    assert other.table["patient"].tolist() == ["é1", "2"]


def test_cells_are_trimmed_and_numbers_read(tmp_path):
    text = (
        "path,patient,frame,fold,position,position_mm,split,x_age\n"
        "a.png, 1 ,1.0,,-3,2.5,Validation,70\nb.png,1,,2.0,,,testing,\n"
    )
    table = read_manifest(make(tmp_path, text)).table
    assert table["patient"].tolist() == ["1", "1"]
    assert table["frame"].tolist() == [1, 0]
    assert table["fold"].tolist() == [pd.NA, 2]
    assert table["position"].tolist() == [-3, pd.NA]
    assert table["position_mm"].isna().tolist() == [False, True]
    assert table["split"].tolist() == ["val", "test"]
    assert table["x_age"].tolist() == ["70", ""]


def test_a_mistyped_patient_column_is_recognised(tmp_path):
    told = refusal(make(tmp_path, "path,pateint\na.png,1\n"))
    assert "column 'pateint': did you mean `patient`?" in told
    assert "columns.patient=path" in told


def test_a_precious_column_is_never_mistyped_in_silence(tmp_path):
    path = make(tmp_path, "path,patient,spilt,Label\na.png,1,train,x\n")
    told = refusal(path)
    assert "'spilt': did you mean `split`? (say columns.split=spilt, or columns.split=null" in told
    assert "'Label': did you mean `label`?" in told
    manifest = read_manifest(path, {"split": None, "label": "Label"})
    assert manifest.carried == ["spilt"]
    assert manifest.table[["label", "split"]].to_numpy().tolist() == [["x", ""]]


def test_all_problems_are_told_at_once_with_their_lines(tmp_path):
    text = (
        "path,patient,split,frame,fold,position,position_mm,origin\n"
        "a.png,1,tset,0,0,0,0,real\n"
        "gone.png,1,train,-1,x,1.5,1e999,\n"
        '"b.png",,train,0,0,0,0,\n'
        ",1,train,0,0,0,0,fake\n"
        "\n"
        "a.png,1,train,0,,,,\n"
    )
    told = refusal(make(tmp_path, text))
    for part in [
        "manifest.csv: ",
        "`split` must be train, val, test or empty (line 2: 'tset') (did you mean 'test'?)",
        "`frame` must be a whole number from 0 (line 3: '-1')",
        "`fold` must be a whole number from 0 (line 3: 'x')",
        "`position` must be a whole number (line 3: '1.5')",
        "`position_mm` must be a number (line 3: '1e999')",
        "`path` must be a file, as seen from",
        "(line 3: 'gone.png')",
        "`patient` is empty (line 4: '')",
        "`path` is empty (line 5: '')",
        "`origin` must be real, generated or empty (line 5: 'fake')",
        "repeats `path`, `frame` and `channel` of an earlier one (line 7: 'a.png')",
        "Lines are counted from the header, line 1",
    ]:
        assert part in told


def test_missing_files_are_shown_and_counted(tmp_path):
    rows = "".join(f"gone{n}.png,1\n" for n in range(8))
    told = refusal(make(tmp_path, f"path,patient\n{rows}"))
    assert "line 6: 'gone4.png' and 3 more" in told
    assert "gone5" not in told


def test_a_folder_or_an_overlong_name_is_no_image(tmp_path):
    (tmp_path / "sub").mkdir()
    told = refusal(make(tmp_path, f"path,patient\nsub,1\n{'x' * 300}.png,1\n"))
    assert "line 2: 'sub', line 3: 'xxx" in told


def test_masks_must_exist_where_named(tmp_path):
    path = make(tmp_path, "path,patient,mask\na.png,1,m.png\nb.png,1,\n")
    assert "`mask` must be a file" in refusal(path)
    (tmp_path / "m.png").write_bytes(b"")
    assert read_manifest(path).table["mask"].tolist() == ["m.png", ""]


def test_frames_and_channels_may_share_a_file(tmp_path):
    text = "path,patient,frame,channel\na.png,1,0,\na.png,1,1,\nb.png,1,0,ED\nb.png,1,0,ES\n"
    assert len(read_manifest(make(tmp_path, text)).table) == 4


def test_a_series_without_its_own_label_must_agree(tmp_path):
    text = (
        "path,patient,series,label{}\na.png,1,s,x{}\nb.png,1,s,y{}\nc.png,2,s,y{}\nd.png,1,s,{}\n"
    )
    path = make(tmp_path, text.format("", *[""] * 4))
    told = refusal(path)
    assert "rows of a series must agree on `label`" in told
    assert "(line 3: 'y')" in told
    assert len(read_manifest(path, {"series": None}).table) == 4
    make(tmp_path, text.format(",series_label", *[",z"] * 4))
    assert read_manifest(path).table["series_label"].tolist() == ["z"] * 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty; it needs a header and one row an image"),
        (HEADER + "\n\n,,,\n", "has a header but no rows"),
        ("path,patient\na.png,1,2\n", "a line needs 2 cells like the header (line 2: 3)"),
        ("path,patient,path\na.png,1,2\n", "line 1: the column 'path' is there twice"),
        ("patient,label\n1,x\n", "there is no `path` column; say columns.path=NAME"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, told):
    assert told in refusal(make(tmp_path, text))


def test_a_workbook_and_a_missing_file_are_refused(tmp_path):
    assert "save it as “CSV UTF-8”" in refusal(make(tmp_path, "path,ä\n", encoding="latin-1"))
    assert "cannot read" in refusal(tmp_path / "none.csv")


def test_lines_are_counted_over_quoted_line_breaks(tmp_path):
    text = 'path,patient,remark\na.png,1,"two\nlines"\nb.png,,x\n'
    assert "`patient` is empty (line 4: '')" in refusal(make(tmp_path, text))


def test_foreign_columns_are_mapped_and_the_others_carried(tmp_path):
    text = "file,pid,label,label_name,frame,kV\na.png,7,1,COVID,55,120\n"
    columns = {"path": "file", "patient": "pid", "series": "pid", "label": "label_name"}
    manifest = read_manifest(make(tmp_path, text), columns | {"frame": None})
    row = manifest.table.iloc[0]
    assert (row["path"], row["patient"], row["series"], row["label"]) == (
        "a.png", "7", "7", "COVID",
    )  # fmt: skip
    assert row["frame"] == 0
    assert manifest.carried == ["file_label", "kV"]
    assert row["file_label"] == "1"
    assert manifest.card.patient_rule == "the column 'pid'"


def test_a_mapping_to_or_from_nowhere_is_refused(tmp_path):
    path = make(tmp_path, "path,patient,klass\na.png,1,x\n")
    told = refusal(path, {"label": "class", "lable": "klass"})
    assert "columns.label=class: the file has no such column (did you mean 'klass'?)" in told
    assert "columns.lable is no column of ours (did you mean 'label'?)" in told
    assert "there is no `path` column" in refusal(path, {"path": None})


def test_patients_by_rule_replace_the_column_and_its_ids_do_not_travel_on(tmp_path):
    path = make(tmp_path, "path,patient\na.png,Smith\nb.png,Smith\n")
    manifest = read_manifest(path, {"patient": "path"})
    assert manifest.table["patient"].tolist() == ["a.png", "b.png"]
    assert manifest.card.patient_rule == "each image is its own patient (columns.patient=path)"
    assert "Smith" not in manifest.table.to_csv()
    by_pattern = read_manifest(path, {"patient": r"^(.)\."})
    assert by_pattern.table["patient"].tolist() == ["a", "b"]
    assert "finds no patient in 2 of 2" in refusal(path, {"patient": r"(z)"})


def test_a_column_whose_name_looks_like_a_pattern_is_a_column(tmp_path):
    path = make(tmp_path, "path,ID (hashed)\na.png,9\n")
    assert read_manifest(path, {"patient": "ID (hashed)"}).table["patient"].tolist() == ["9"]


def test_windows_paths_are_understood(tmp_path):
    make(tmp_path / "images", HEADER)
    path = make(tmp_path, "path,patient\nimages\\a.png,1\n")
    assert read_manifest(path).table["path"].tolist() == ["images/a.png"]


def test_equal_ids_under_two_dataset_names_are_counted(tmp_path):
    text = "path,patient,dataset\na.png,1,x\nb.png,1,y\nc.png,2,y\n"
    (note,) = read_manifest(make(tmp_path, text)).notes
    assert note.startswith("1 patient ids stand under more than one dataset name (such as '1')")


def test_the_digest_follows_the_content_and_not_the_place(tmp_path):
    text = f"{HEADER},remark\na.png,1,x,train,r\nb.png,2,y,val,r\n"
    first = read_manifest(make(tmp_path / "one", text)).digest
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert read_manifest(tmp_path / "two").digest == first
    make(tmp_path / "two", text.replace(",r\n", ",other\n"))
    assert read_manifest(tmp_path / "two").digest == first
    for old, new in [("train", "test"), (",x,", ",z,"), (",2,", ",02,"), ("b.png", "c.png")]:
        make(tmp_path / "two", text.replace(old, new))
        assert read_manifest(tmp_path / "two").digest != first
    make(tmp_path / "two", text)
    write_json(tmp_path / "two" / "card.json", {"dataset": "two", "classes": ["y", "x"]})
    assert read_manifest(tmp_path / "two").digest != first


def test_writing_and_reading_come_back_to_the_same(tmp_path):
    make(tmp_path / "in", HEADER)
    table = pd.DataFrame(
        {
            "remark": ["a, b", 'say "c"'],
            "patient": ["007", "ä;1"],
            "path": [str(tmp_path / "in" / f"{name}.png") for name in "ab"],
            "label": ["x|y", ""], "series": ["", ""], "frame": [0, 0], "group": [0, 1],
            "position": pd.array([None, 3], dtype="Int64"), "position_mm": [0.1, 1 / 3],
            "mask": [str(tmp_path / "in" / "c.png"), ""],
        }
    )  # fmt: skip
    card = Card(
        "ds", ["y", "x"], "rule", "12ab34cd", "medvision prepare", {"v": "1"}, facts={"n": 1}
    )
    path = write_manifest(tmp_path / "out" / "deep", table, card)
    manifest = read_manifest(path)
    again = manifest.table
    assert manifest.card == card
    assert manifest.carried == ["remark"]
    assert again["path"].tolist() == ["../../in/a.png", "../../in/b.png"]
    assert all(file.exists() for file in manifest.files())
    for name in ("patient", "label", "remark", "position_mm"):
        assert again[name].tolist() == table[name].tolist()
    assert again["mask"].tolist() == ["../../in/c.png", ""]
    assert again["group"].tolist() == ["0", "1"]
    assert again["position"].isna().tolist() == [True, False]
    assert again["dataset"].tolist() == ["ds", "ds"]
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header == "path,patient,label,position,position_mm,group,mask,remark"
    assert read_manifest(write_manifest(path.parent, again, card)).digest == manifest.digest
    assert sorted(file.name for file in path.parent.iterdir()) == ["card.json", "manifest.csv"]


def test_a_folder_behind_a_link_still_finds_its_images(tmp_path):
    make(tmp_path / "in", HEADER)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    table = pd.DataFrame({"path": [str(tmp_path / "in" / "a.png")], "patient": ["1"]})
    write_manifest(tmp_path / "link", table, Card("d"))
    assert read_manifest(tmp_path / "link").files()[0].exists()


def test_a_card_fills_what_rows_do_not_say_and_keeps_unknown_facts(tmp_path):
    path = make(tmp_path, "path,patient,dataset\na.png,1,\nb.png,1,own\n")
    write_json(
        tmp_path / "card.json",
        {"dataset": "ds", "origin": "generated", "gate": "passed", "key": "ab", "facts": {"n": 2}},
    )
    manifest = read_manifest(path)
    assert manifest.table["dataset"].tolist() == ["ds", "own"]
    assert set(manifest.table["origin"]) == {"generated"}
    assert manifest.card.facts == {"gate": "passed", "n": 2}
    assert manifest.card.key == "ab"
    assert read_manifest(path, {"patient": "path"}).card.key is None


def test_a_broken_card_is_refused_by_name(tmp_path):
    path = make(tmp_path, f"{HEADER}\na.png,1,,\n")
    write_json(tmp_path / "card.json", {"classes": "x", "origin": "dream"})
    told = refusal(path)
    assert "card.json: `classes` must be a list of names or null, not 'x'; `origin`" in told
    (tmp_path / "card.json").write_text("[]")
    assert "card.json holds no JSON object" in refusal(path)

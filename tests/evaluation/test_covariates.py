import pandas as pd
import pytest

from medvision.evaluation.covariates import Covariate, find_covariates, read_rows, real_rows


def column(*values, name="x_age"):
    return Covariate(name, pd.Series(list(values)))


def test_many_numbers_are_numeric_and_few_or_words_are_levels():
    assert column("1", "2", "3", "4", "5", "6.5", "").numeric
    assert not column("0", "1", "0", "1", "").numeric
    assert not column("1", "2", "3", "4", "5", "old").numeric
    assert not column("", "").numeric
    assert column("10", "9", "", "9").levels() == ["9", "10"]
    assert column("b", "a").levels() == ["a", "b"]


def test_rows_of_a_patient_become_one_value():
    keys = pd.Series(list("aabbc"))
    numbers = column("1", "3", "5", "", "7.25").by(keys)
    assert numbers.values.to_dict() == {"a": "", "b": "5", "c": "7.25"}
    many = Covariate("x", pd.Series(["1", "3", "5", "6", "7", "8", "9"]))
    means = many.by(pd.Series(list("aabcdef")))
    assert means.numbers.to_dict() == {"a": 2, "b": 5, "c": 6, "d": 7, "e": 8, "f": 9}
    assert column("1", "3", "5", "", "7").varies(keys)
    assert not column("1", "1", "5", "", "7").varies(keys)


def test_names_constants_and_unknown_columns_are_no_covariates(tmp_path):
    table = pd.DataFrame({
        "path": "x.png", "patient": [f"p{n}" for n in range(60)], "split": "train",
        "site": ["A", "B", ""] * 20, "modality": "CT", "x_age": range(60),
        "x_note": [f"text {n}" for n in range(60)], "x_empty": "", "secret": "s", "origin": "real",
    })  # fmt: skip
    table.to_csv(tmp_path / "manifest.csv", index=False)
    rows = read_rows(tmp_path / "manifest.csv")
    assert "secret" not in rows
    assert "path" not in rows
    assert [one.name for one in find_covariates(rows)] == ["site", "x_age"]
    assert len(real_rows(rows.assign(origin="generated"))) == 0


@pytest.mark.parametrize("made", [False, True])
def test_no_manifest_has_no_rows(tmp_path, made):
    if made:
        (tmp_path / "manifest.csv").touch()
    assert read_rows(tmp_path / "manifest.csv").empty

"""Files of a run are what they were, or are refused by name; a foreign run is stamped as that."""

import os
import shutil

import pandas as pd
import pytest

import medvision.files as files
from medvision.runs import Run
from medvision.trust import integrity

pytestmark = pytest.mark.usefixtures("dots")

ELSEWHERE = integrity.STAMPS["elsewhere"]


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    """A copy of the trained run, in a runs folder of its own."""
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    return shutil.copytree(trained, tmp_path / "runs" / "mine" / "seed=0")


@pytest.fixture
def stranger(copied):
    """The same, signed with a key that is not here."""
    record = Run(copied).record
    files.write_json(copied / "record.json", record | {"mac": "0" * 64})
    return copied


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_finished_run_says_what_its_files_were(trained):
    record = Run(trained).record
    assert set(record["digests"]) == {*integrity.list_evidence(trained), "model.pt"}
    assert {"manifest.csv", "config.yaml", "metrics.json", "predictions/test.csv"} <= set(
        record["digests"]
    )
    assert integrity.check_files(trained) == "own"


@pytest.mark.parametrize(
    "name",
    ["model.pt", "manifest.csv", "card.json", "audit.json", "config.yaml", "history.csv",
     "metrics.json", "predictions/test.csv"],
)  # fmt: skip
def test_a_flipped_bit_is_refused_by_name(copied, medvision, tmp_path, name):
    flip(copied / name)
    out = f"output={tmp_path / 'o.csv'}"
    asked = [("evaluate", f"run={copied}"), ("report", f"run={copied}"),
             ("predict", f"run={copied}", f"input={copied / 'manifest.csv'}", out)]  # fmt: skip
    if name.startswith(integrity.REWRITTEN):
        asked = asked[1:2]  # the others make it anew, or do not read it
    for words in asked:
        done = medvision(*words)
        assert done.status == 2, words
        assert f"{name} is not what it was when it was written" in done.err, words
    done = medvision("verify", f"run={copied}")
    assert done.status == 2
    assert f"{name}: has changed since it was written" in done.err


def test_train_rows_that_are_renamed_to_test_are_refused(stranger, medvision):
    """Of a run of before, whose manifest nothing vouches for."""
    record = Run(stranger).record
    old = {k: v for k, v in record.items() if k not in ("digests", "mac")}
    files.write_json(stranger / "record.json", old)
    table = pd.read_csv(stranger / "manifest.csv", dtype=str, keep_default_na=False)
    table["split"] = table["split"].replace({"train": "test", "test": "train"})
    table.to_csv(stranger / "manifest.csv", index=False)
    done = medvision("evaluate", f"run={stranger}")
    assert done.status == 2
    assert "were seen in training or validation" in done.err


def test_a_run_of_another_key_is_stamped_in_every_table(stranger, medvision, tmp_path):
    report = medvision("report", f"run={stranger}")
    assert report.status == 0, report.err
    assert ELSEWHERE in report.out
    assert ELSEWHERE in (stranger / "report.html").read_text()
    assert ELSEWHERE in medvision("evaluate", f"run={stranger}").out
    out = tmp_path / "o.csv"
    done = medvision("predict", f"run={stranger}", f"input={stranger / 'manifest.csv'}",
                     f"output={out}", "on_foreign=warn")  # fmt: skip
    assert ELSEWHERE in done.out + done.err
    verified = medvision("verify", f"run={stranger}")
    assert verified.status == 0, verified.err
    assert ELSEWHERE in verified.out


def test_arms_of_another_key_are_counted(trained, copied, medvision):
    other = shutil.copytree(copied, copied.parents[1] / "second" / "seed=0")
    record = Run(other).record
    files.write_json(other / "record.json", record | {"mac": "0" * 64})
    done = medvision("compare", f"runs=[{copied},{other}]")
    assert done.status == 0, done.err
    assert f"1 of 2 runs: {ELSEWHERE}" in done.out
    page = medvision("report", "run=*/seed=0")
    assert f"1 of 2 runs: {ELSEWHERE}" in (page.out + page.err).replace("\n", " ")


def test_a_run_of_before_says_that_it_has_no_digests(copied, medvision):
    record = Run(copied).record
    old = {k: v for k, v in record.items() if k not in ("digests", "mac")}
    files.write_json(copied / "record.json", old)
    done = medvision("report", f"run={copied}")
    assert integrity.STAMPS["undigested"] in done.out.replace("\n", " ")
    assert medvision("evaluate", f"run={copied}").status == 0
    assert "mac" not in Run(copied).record  # nobody adopts it by looking at it


def test_a_record_that_is_edited_is_no_longer_this_users(copied):
    record = Run(copied).record
    files.write_json(copied / "record.json", record | {"task": "somebody.else.Task"})
    assert Run(copied).signature == "elsewhere"


def test_a_stop_between_predictions_and_scores_is_noticed(copied, medvision):
    run = Run(copied)
    with pytest.raises(KeyboardInterrupt), run.rewriting("test"):
        raise KeyboardInterrupt
    done = medvision("report", f"run={copied}")
    assert done.status == 2
    assert "was being written when its process ended; medvision evaluate run=" in done.err
    again = medvision("evaluate", f"run={copied}")
    assert again.status == 0, again.err
    assert medvision("verify", f"run={copied}").status == 0


def test_verify_computes_the_scores_again(copied, medvision, sign_again):
    metrics = files.read_json(copied / "metrics.json")
    metrics["test"]["auroc"]["value"] = 0.999
    files.write_json(copied / "metrics.json", metrics)
    done = medvision("verify", f"run={sign_again(copied)}")
    assert done.status == 2
    assert "1 values differ, such as test.auroc.value" in done.err
    assert "Traceback" not in done.err


def test_the_way_out_of_a_lost_model_works(trained, medvision, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    words = (*tiny, "name=lost", "trainer.max_epochs=1")
    assert medvision(*words).status == 0
    (model,) = (tmp_path / "runs" / "lost").glob("*/model.pt")
    for spoil in (lambda: os.truncate(model, 100), model.unlink):
        spoil()
        told = medvision("evaluate", f"run={model.parent}").err
        assert "rerun=true" in told
        assert medvision(*words, "rerun=true").status == 0
        assert medvision("verify", f"run={model.parent}").status == 0

import pytest

from medvision.data.manifest.path_map import (
    is_masked,
    map_file,
    mask_paths,
    reveal_paths,
    without_names,
)
from medvision.errors import MedvisionError


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "home" / "key"))
    return tmp_path / "home" / "key"


def test_hidden_paths_are_told_back():
    paths = ["/in/Doe^John/1.dcm", "", "/in/名.png", "/in/Doe^John/1.dcm"]
    hidden = mask_paths(paths)
    assert hidden[0] == hidden[3]
    assert hidden[1] == ""
    assert all(is_masked(name) for name in hidden if name)
    assert not any("Doe" in name or "/" in name for name in hidden)
    assert reveal_paths(hidden) == paths
    assert mask_paths(["/in/名.png"]) == [hidden[2]]


def test_what_is_no_stand_in_stays():
    assert reveal_paths(["a.png", ""]) == ["a.png", ""]
    assert not map_file().exists()


def test_many_paths(tmp_path):
    paths = [f"/in/{number}.png" for number in range(1234)]
    assert reveal_paths(mask_paths(paths)) == paths


def test_the_map_is_the_users_alone():
    mask_paths(["/in/a.png"])
    assert map_file().stat().st_mode & 0o777 == 0o600


def test_another_key_gives_other_names_and_tells_nothing(tmp_path, monkeypatch):
    hidden = mask_paths(["/in/a.png"])
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "other" / "key"))
    with pytest.raises(MedvisionError, match=r"1 of 1 paths are hashed and .* does not tell them"):
        reveal_paths(hidden)
    assert mask_paths(["/in/a.png"]) != hidden


def test_a_broken_map_is_one_sentence(key):
    mask_paths(["/in/a.png"])
    map_file().write_bytes(b"no database" * 100)
    with pytest.raises(MedvisionError, match="which tells hashed paths"):
        mask_paths(["/in/b.png"])


def test_a_run_names_no_file(medvision, apart, tiny, places):
    assert medvision(*tiny, "name=s", "trainer.max_epochs=1").status == 0
    (run,) = (p for p in (apart / "s").iterdir() if p.is_dir())
    images = {p.name for p in (places / "phantom" / "images").iterdir()}
    assert images
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".html", ".yaml", ".pt", ".ckpt"):
            content = path.read_bytes()
            assert not [name for name in images if name.encode() in content], path
    assert medvision("evaluate", f"run={run}").status == 0


def test_a_run_without_its_map_says_so(medvision, apart, tiny, tmp_path, monkeypatch):
    assert medvision(*tiny, "name=s", "trainer.max_epochs=1").status == 0
    (run,) = (p for p in (apart / "s").iterdir() if p.is_dir())
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "elsewhere" / "key"))
    done = medvision("evaluate", f"run={run}")
    assert done.status == 2
    assert "paths are hashed" in done.err


def test_a_sentence_keeps_its_words_and_loses_paths_and_what_is_quoted(tmp_path):
    folder = tmp_path / "Hans Quennell"
    folder.mkdir()
    (folder / "q 1.png").write_bytes(b"")
    there, gone = folder / "q 1.png", folder / "q 2 of it.png"
    for sentence, kept in {
        f"{there} is empty; mend it (see a/b), or data.on=drop":
            "… is empty; mend it (see a/b), or data.on=drop",
        f"cannot read 2 of 3 images: {there}: no; {gone}: gone. Mend them":
            "cannot read 2 of 3 images: …: no; …: gone. Mend them",
        f"{there} in train is the same image as {gone} frame 3 in val":
            "… in train is the same image as … frame 3 in val",
        f"rows as seen from {folder} (line 2: 'Hans.png', line 3: \"O'Quennell\")":
            "rows as seen from … (line 2: '…', line 3: \"…\")",
        f"data.manifest={folder}/a.csv has no rows": "data.manifest=… has no rows",
        "No such file: '/nowhere/Quennell.png' (read.py:3)": "No such file: '…' (read.py:3)",
        "the run's own file isn't here": "the run's own file isn't here",
        "model.optimizer.lr=-1 must be a number from 0":
            "model.optimizer.lr=-1 must be a number from 0",
    }.items():  # fmt: skip
        assert without_names(sentence) == kept

import errno
import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import medvision.files as files
from medvision.errors import MedvisionError


def refusing(number):
    def refuse(*_, **__):
        raise OSError(number, "no", "somewhere")

    return refuse


def test_what_was_written_is_there_and_nothing_else(tmp_path):
    place = files.write_text(tmp_path / "a" / "notes.txt", "α\nβ\n")
    assert place.read_bytes() == "α\nβ\n".encode()
    assert [p.name for p in place.parent.iterdir()] == ["notes.txt"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    place = files.write_text(tmp_path / "notes.txt", "old")

    def fail():
        with files.written_aside(place) as aside:
            aside.write_text("half of the n")
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        fail()
    assert place.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_reader_meets_the_old_file_until_the_new_one_is_whole(tmp_path):
    place = files.write_text(tmp_path / "notes.txt", "old")
    with files.written_aside(place) as aside:
        aside.write_text("new")
        assert place.read_text() == "old"
        assert aside.parent == place.parent  # a rename across disks would copy
        assert aside.suffix == ".txt"
    assert place.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission is denied; choose a writable place"),
        (errno.EROFS, "the file system is read-only; choose a writable place"),
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EDQUOT, "your disk quota is used up; free some space"),
    ],
)
def test_a_refusal_is_a_sentence_though_the_file_system_refuses_the_cleaning_up_too(
    tmp_path, monkeypatch, number, words
):
    monkeypatch.setattr(Path, "write_bytes", refusing(number))
    monkeypatch.setattr(Path, "unlink", refusing(number))
    with pytest.raises(MedvisionError) as told:
        files.write_text(tmp_path / "notes.txt", "x")
    assert str(told.value).startswith(f"cannot write {tmp_path / 'notes.txt'}: {words}")


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file")
    for place in (tmp_path / "taken" / "x.txt", tmp_path / "taken" / "deeper" / "x.txt"):
        with pytest.raises(MedvisionError, match="a file stands where a folder should be"):
            files.write_text(place, "x")
    with pytest.raises(MedvisionError, match="a folder stands where the file should be"):
        files.write_text(tmp_path, "x")


def test_another_fault_of_the_system_stays_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", refusing(errno.EIO))
    with pytest.raises(OSError, match="somewhere"):
        files.write_text(tmp_path / "notes.txt", "x")


def test_what_a_killed_process_was_writing_is_taken_over(tmp_path):
    script = ("import os, sys, medvision.files as files\n"
              "with files.written_aside(sys.argv[1]) as aside:\n"
              "    aside.write_text('half'); os.kill(os.getpid(), 9)\n")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "a.txt"]).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name == ".a.txt.aside0.txt"
    assert files.list_visible(tmp_path, "*") == []
    files.write_text(tmp_path / "a.txt", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_two_may_write_one_file_and_the_last_stays(tmp_path):
    place = tmp_path / "a.txt"
    with files.written_aside(place) as first:
        first.write_text("first")
        with files.written_aside(place) as second:
            second.write_text("second")
            assert first != second
        files.remove_asides(tmp_path)
        assert place.read_text() == "second"
    assert place.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_found_behind_another_error_and_a_read_that_failed_is_not():
    def raise_behind(number):
        try:
            raise OSError(number, "no")
        except OSError:
            raise RuntimeError("a broken archive")  # noqa: B904 -- as torch does

    with pytest.raises(RuntimeError) as full:
        raise_behind(errno.ENOSPC)
    assert files.find_refusal(full.value).errno == errno.ENOSPC
    with pytest.raises(RuntimeError) as other:
        raise_behind(errno.EACCES)
    assert files.find_refusal(other.value) is None
    told = MedvisionError("no")
    told.__cause__ = PermissionError(errno.EACCES, "no")
    assert files.find_refusal(told) is told.__cause__


def test_no_link_is_followed_aside(tmp_path):
    (tmp_path / "dear").write_text("dear")
    (tmp_path / ".a.txt.aside0.txt").symlink_to(tmp_path / "dear")
    files.write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "dear").read_text() == "dear"


def test_a_long_name_can_be_written_aside(tmp_path):
    name = "名" * 80 + ".csv"
    assert files.write_text(tmp_path / name, "x").name == name


def test_json_is_strict_and_reads_back(tmp_path):
    content = {"b": [1, None, 0.1], "a": "肺"}
    place = files.write_json(tmp_path / "x.json", content)
    assert files.read_json(place) == content
    assert list(json.loads(place.read_text())) == ["b", "a"]
    assert "肺" in place.read_text()
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(place, {"a": float("nan")})
    assert files.read_json(place) == content


def test_json_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(MedvisionError, match=r"x\.json does not exist"):
        files.read_json(tmp_path / "x.json")
    for content in (b'{"a": 1', b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(MedvisionError, match=r"x\.json is not valid JSON"):
            files.read_json(tmp_path / "x.json")


def test_a_second_comer_waits_until_the_lock_is_free(tmp_path):
    order, waiting = [], threading.Event()

    def second():
        with files.locked(tmp_path / "lock", on_wait=waiting.set):
            order.append("second")

    with files.locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_another_process_waits_too(tmp_path):
    code = (
        "import sys, medvision.files as files\n"
        f"place, wait = {str(tmp_path / 'lock')!r}, lambda: print('waits', flush=True)\n"
        "with files.locked(place, on_wait=wait):\n"
        "    print('in', flush=True)\n"
    )
    with files.locked(tmp_path / "lock"):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "waits\n"
    assert child.communicate(timeout=20)[0] == "in\n"


def test_on_wait_may_refuse_and_a_lock_is_freed_by_an_error(tmp_path):
    def refuse():
        raise MedvisionError("taken")

    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(MedvisionError, match="taken"),
        files.locked(tmp_path / "lock", on_wait=refuse),
    ):
        pass
    with pytest.raises(KeyError), files.locked(tmp_path / "lock"):
        raise KeyError
    with files.locked(tmp_path / "lock", on_wait=refuse):
        pass


def test_a_digest_keeps_its_parts_apart():
    assert files.digest("ab", "c") != files.digest("a", "bc")
    assert files.digest("ab") == files.digest(b"ab") != files.digest("ab", "")


def test_a_file_is_digested_by_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.digest_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("model.net.widths=[8,16]", "model.net.widths=_8,16"),
        ("data.manifest=/a b/肺炎.csv", "data.manifest=_a_b_肺炎.csv"),
        ("名" * 100, "名" * 80),
        ("../../etc", "etc"),
        ("", ""),
    ],
)
def test_a_safe_name_keeps_letters_of_any_script(text, safe):
    assert files.file_safe(text) == safe


def test_inputs_are_found_as_typed_and_then_under_the_data_folder(tmp_path, monkeypatch):
    data, here = tmp_path / "data", tmp_path / "here"
    for folder in (data, here):
        (folder / "set").mkdir(parents=True)
    (data / "only").mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(MedvisionError, match="MEDVISION_DATA, which is not set"):
        files.find_input("only")
    monkeypatch.setenv("MEDVISION_DATA", str(data))
    assert files.find_input("set") == here / "set"
    assert files.find_input("only") == data / "only"
    with pytest.raises(MedvisionError, match=f"none does not exist.*{data / 'none'}"):
        files.find_input("none")
    with pytest.raises(MedvisionError, match="does not exist"):
        files.find_input("x" * 300)


def test_folders_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MEDVISION_CACHE", "MEDVISION_RUNS", "MEDVISION_DATA"):
        monkeypatch.setenv(name, "")
    assert files.cache_folder() == tmp_path / ".medvision"
    assert files.runs_folder() == tmp_path / "runs"
    assert files.data_folder() is None
    monkeypatch.setenv("MEDVISION_RUNS", "elsewhere")
    assert files.runs_folder() == tmp_path / "elsewhere"

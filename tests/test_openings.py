"""Looks at test parts: each is kept, and counted whatever its run is called."""

from medvision.openings import close_opening, count_openings, digest_rows, record_opening
from medvision.runs import Run


def test_each_opening_of_the_test_part_is_kept(tmp_path):
    run = Run(tmp_path)
    for model in ("a" * 64, "b" * 64):
        record_opening([run], [model], "rows")
    assert [opening["model"] for opening in run.record["test_openings"]] == ["a" * 16, "b" * 16]
    assert all(opening["date"].endswith("Z") for opening in run.record["test_openings"])


def test_an_opening_that_was_killed_half_way_counts_once(tmp_path):
    run = Run(tmp_path)
    for _ in range(2):  # the second is the same command after a kill
        record_opening([run], ["a" * 64], "rows")
    assert len(run.record["test_openings"]) == 1
    close_opening([run])
    record_opening([run], ["a" * 64], "rows")
    assert len(run.record["test_openings"]) == 2


def test_a_look_in_several_places_is_over_when_it_is_so_in_all(tmp_path):
    places = [Run(tmp_path / name) for name in "ab"]

    def look(ended: int) -> list[int]:
        record_opening(places, ["m1", "m2"], "rows")
        close_opening(places[:ended])
        return [len(place.record["test_openings"]) for place in places]

    assert look(ended=1) == look(ended=2) == [1, 1]  # the first was killed between the two
    assert look(ended=2) == [2, 2]


def test_openings_are_counted_by_rows_over_the_whole_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path))
    rows = digest_rows(["i2", "i1"])
    assert rows == digest_rows(["i1", "i2", "i1"]) != digest_rows(["i1"])
    one, other = Run(tmp_path / "a" / "x"), Run(tmp_path / "b" / "y")
    record_opening([one], ["m1"], rows, ["s1"], whole=True)
    record_opening([other], ["m2"], rows, ["s2"], whole=True)
    record_opening([Run(tmp_path / "c" / "z")], ["m3"], "others", ["s3"], whole=True)
    joint = Run(tmp_path / "_joint" / "evaluate-1")
    record_opening([joint, one, other], ["m", "m1", "m2"], rows, ["s1", "s2"], whole=True)
    assert count_openings(one.record) == count_openings(other.record) == (3, 2)
    record_opening([Run(one.folder / "evaluations" / "e")], ["m1"], rows, ["s1"], whole=True)
    assert count_openings(one.record) == (4, 2)
    assert count_openings({"test_openings": [{}, {}]}) == (2, 0)  # of before

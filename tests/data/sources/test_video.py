import cv2
import numpy as np
import pytest
from PIL import Image

from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources.prepare import prepare
from medvision.data.sources.video import find as find_video
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store
from medvision.errors import MedvisionError

RULE = {"patient": r"(p\d)"}


def draw(number, count=10):
    return np.random.default_rng(number).integers(0, 255, (count, 16, 24), dtype=np.uint8)


def write(path, frames, code="FFV1", fps=20.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    fourcc = cv2.VideoWriter_fourcc(*code)
    size = frames.shape[2], frames.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, size)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


@pytest.fixture
def cohort(tmp_path):
    """Two classes of two patients each, a clip of ten frames a patient."""
    for number, ending in enumerate(("avi", "mp4", "avi", "mp4")):
        folder = "ill" if number % 2 else "well"
        write(tmp_path / "in" / folder / f"p{number}_echo.{ending}", draw(number))
    return tmp_path / "in"


def test_every_frame_is_a_row_with_its_time(cohort):
    (cohort / "notes.txt").touch()
    found = find_video(cohort, columns=RULE)
    table = found.table
    assert len(table) == 40
    clip = table[table["patient"] == "p3"]
    assert clip["frame"].tolist() == clip["position"].tolist() == list(range(10))
    assert clip["time_s"].tolist() == pytest.approx([k / 20 for k in range(10)])
    assert set(clip["label"]) == {"ill"}
    assert table.groupby("series")["patient"].nunique().tolist() == [1] * 4
    assert (found.facts["skipped"], found.facts["clips"]) == (1, 4)


def test_frames_are_thinned_by_count_or_by_time(cohort):
    each = find_video(cohort, columns=RULE, every=4).table.groupby("series")["frame"].agg(list)
    assert each.tolist() == [[0, 4, 8]] * 4
    each = find_video(cohort, columns=RULE, seconds=0.2).table.groupby("series")["frame"].agg(list)
    assert each.tolist() == [[0, 4, 8]] * 4
    images = [Image.fromarray(frame) for frame in draw(0, 4)]
    images[0].save(cohort / "well" / "p9.gif", save_all=True, append_images=images[1:],
                   duration=[10, 300, 50, 50])  # fmt: skip
    table = find_video(cohort, columns=RULE, seconds=0.2).table
    assert table.loc[table["patient"] == "p9", "frame"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "every=0 cannot be; give a whole number from 1"),
        ({"every": 1.5}, "every=1.5 cannot be"),
        ({"seconds": 0}, "seconds=0 cannot be; give a number above 0"),
        ({"seconds": "x"}, "seconds=x cannot be"),
        ({"seconds": 1, "every": 2}, "cannot both be given"),
    ],
)
def test_settings_that_cannot_be(cohort, options, told):
    with pytest.raises(MedvisionError, match=told):
        find_video(cohort, columns=RULE, **options)


def test_each_clip_can_be_its_own_patient(cohort):
    found = find_video(cohort, columns={"patient": "path"})
    assert found.patient_rule == "each clip is its own patient (columns.patient=path)"
    assert found.table["patient"].nunique() == 4


def test_prepared_clips_are_gathered_exactly(cohort, tmp_path):
    prepared = prepare("video", tmp_path / "out", input=cohort, columns=RULE, every=3)
    manifest = read_manifest(prepared.manifest)
    assert len(manifest.table) == 16
    assert "echo" not in "".join(manifest.table["series"])
    store = open_store(manifest.files(), manifest.table["frame"].tolist(), Reader(size=None),
                       cache=tmp_path / "cache", progress=False)  # fmt: skip
    order = np.random.default_rng(0).permutation(16)
    for pixels, row in zip(store.gather(order), order, strict=True):
        number, frame = int(manifest.files()[row].name[1]), int(manifest.table["frame"][row])
        assert np.array_equal(pixels[..., 0], draw(number)[frame])


def test_a_damaged_clip_stops_or_is_left_out_by_choice(cohort, tmp_path):
    cut = cohort / "well" / "p0_echo.avi"
    cut.write_bytes(cut.read_bytes()[:-500])
    broken = write(cohort / "ill" / "p5.avi", draw(5), "MPNG")
    whole = broken.read_bytes()
    place = whole.rfind(b"\x89PNG")
    broken.write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
    with pytest.raises(MedvisionError) as caught:
        prepare("video", tmp_path / "out", input=cohort, columns=RULE)
    told = str(caught.value)
    assert told.startswith("2 of 41 images cannot be used: ")
    assert "p0_echo.avi is truncated, copy it again from its source" in told
    assert "p5.avi is damaged (its header tells of 10 frames, not all can be decoded)" in told
    kept = prepare("video", tmp_path / "out", input=cohort, columns=RULE, on_unreadable="exclude")
    assert len(kept.table) == 39
    assert kept.table.groupby("series").size().tolist() != [10] * 4

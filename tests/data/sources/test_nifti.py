import nibabel
import numpy as np
import pytest

from medvision.data.formats.decode import decode
from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources.nifti import find as find_nifti
from medvision.data.sources.prepare import prepare
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store
from medvision.errors import MedvisionError

AFFINE = np.diag([-0.5, -0.75, 4.0, 1.0])  # stored from right to left, anterior to posterior
RULE = {"patient": r"(p\d)"}


def draw(number, shape=(10, 12, 5)):
    return np.random.default_rng(number).integers(0, 4000, shape).astype(np.int16)


def save(path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture
def cohort(tmp_path):
    """Two classes of two patients each, a volume a patient, and a mask that marks two slices."""
    for number in range(4):
        place = tmp_path / "in" / ("ill" if number % 2 else "well") / f"p{number}"
        save(place / "scan.nii.gz", draw(number))
        mask = np.zeros((10, 12, 5), np.uint8)
        mask[4:6, 4:6, 2:4] = 1
        save(place / "scan_seg.nii.gz", mask)
    return tmp_path / "in"


def find(top, **options):
    return find_nifti(top, **({"columns": RULE} | options))


def test_every_slice_is_a_row_with_its_place(cohort):
    (cohort / "notes.txt").touch()
    found = find(cohort, masks="{stem}_seg.nii.gz")
    table = found.table
    assert len(table) == 4 * 5
    first = table[table["patient"] == "p1"]
    assert set(first["label"]) == {"ill"}
    assert first["series"].nunique() == 1
    assert first["position"].tolist() == first["frame"].tolist() == [0, 1, 2, 3, 4]
    assert first["position_mm"].tolist() == [0, 4, 8, 12, 16]
    assert set(first["spacing_y_mm"]) == {0.75}
    assert set(first["spacing_x_mm"]) == {0.5}
    assert set(first["axis"]) == {"axial"}
    for row in table.itertuples():
        assert row.mask == row.path.replace("scan", "scan_seg")
        voxels = draw(int(row.patient[1]))
        assert np.array_equal(decode(row.path, row.frame)[..., 0], voxels[:, :, row.position].T)
    assert found.facts["axes"] == {"axial": 20}
    assert (found.facts["skipped"], found.facts["volumes"]) == (1, 4)


def test_a_chosen_axis_is_in_the_frame_number(cohort):
    table = find(cohort, axis="coronal", masks="{stem}_seg.nii.gz").table
    assert len(table) == 4 * 12
    row = table[table["patient"] == "p2"].iloc[3]
    assert (row.frame, row.position, row.spacing_y_mm, row.spacing_x_mm) == (2000003, 3, 4.0, 0.5)
    expected = draw(2)[:, 11 - 3, ::-1].T  # stored from anterior to posterior
    assert np.array_equal(decode(row.path, row.frame)[..., 0], expected)
    marked = table[[decode(r.mask, r.frame).any() for r in table.itertuples()]]
    assert set(marked["position"]) == {11 - 4, 11 - 5}


def test_slices_can_be_thinned_or_only_those_marked(cohort):
    assert set(find(cohort, slices="every:2", labels="none").table["position"]) == {0, 2, 4}
    marked = find(cohort, slices="foreground", masks="{stem}_seg.nii.gz").table
    assert sorted(set(marked["position"])) == [2, 3]
    assert len(marked) == 8


def test_a_fourth_axis_is_time_or_channels(tmp_path):
    image = nibabel.Nifti1Image(draw(0, (8, 9, 3, 2)), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    nibabel.save(image, tmp_path / "p0.nii")
    times = find(tmp_path).table
    assert times["series"].tolist() == ["p0.nii#0"] * 3 + ["p0.nii#1"] * 3
    assert times["time_s"].tolist() == [0] * 3 + [2.5] * 3
    assert times["position"].tolist() == [0, 1, 2] * 2
    channels = find(tmp_path, fourth="channel").table
    assert channels["series"].nunique() == 1
    assert channels["channel"].tolist() == ["0"] * 3 + ["1"] * 3
    assert channels["frame"].tolist() == list(range(6))


@pytest.mark.parametrize("ids", [["well/p0/scan", "ill/p1/scan"], ["p0", "p1"]])
def test_labels_come_from_a_table(cohort, tmp_path, ids):
    key = "series" if "/" in ids[0] else "patient"
    lines = [f"{key},finding", f"{ids[0]},clear", f"{ids[1]},tumour"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    columns = RULE | {"label": "finding"}
    found = find(cohort, labels=tmp_path / "labels.csv", columns=columns, masks="{stem}_seg.nii.gz")
    told = found.table.groupby("patient")["label"].agg(set).to_dict()
    assert told == {"p0": {"clear"}, "p1": {"tumour"}, "p2": {""}, "p3": {""}}


def test_folders_of_patients_are_no_classes(tmp_path):
    for number in range(3):
        save(tmp_path / f"doe{number}" / "scan.nii", draw(number))
    rule = {"patient": r"(doe\d)"}
    with pytest.raises(MedvisionError, match=r"each of the 3 folders .* say labels=FILE\.csv"):
        find(tmp_path, columns=rule)
    assert "doe" not in str(find(tmp_path, columns=rule, labels="none").table.get("label").tolist())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"axis": "axal"}, r"axis=axal cannot be \(did you mean 'axial'\?\)"),
        ({"fourth": "b"}, "fourth=b cannot be; choose time, channel"),
        ({"slices": "every:0"}, "slices=every:0 cannot be; say all, foreground or every:N"),
        ({"slices": "foreground"}, "slices=foreground needs masks"),
        ({"masks": "seg.nii"}, "masks=seg.nii names no volume"),
        ({"masks": "{stem}_m.nii.gz"}, "finds no mask in"),
        ({"columns": {}}, "no patient rule was given for .* say columns.patient=path"),
        ({"columns": {"patient": "name"}}, "columns.patient=name is no rule"),
        ({"columns": RULE | {"site": "s"}}, "columns.site means nothing here"),
    ],
)
def test_settings_that_cannot_be(cohort, options, told):
    with pytest.raises(MedvisionError, match=told):
        find(cohort, **options)


def test_masks_of_other_voxels_or_elsewhere_are_refused(cohort):
    small = np.zeros((10, 12, 4), np.uint8)
    save(cohort / "well" / "p0" / "scan_seg.nii.gz", small)
    moved = AFFINE.copy()
    moved[0, 3] = 3
    save(cohort / "ill" / "p1" / "scan_seg.nii.gz", np.zeros((10, 12, 5), np.uint8), moved)
    with pytest.raises(MedvisionError) as caught:
        find(cohort, masks="{stem}_seg.nii.gz")
    told = str(caught.value)
    assert told.startswith("2 masks do not fit: ")
    assert "has 10 x 12 x 4 x 1 voxels, its volume 10 x 12 x 5 x 1" in told
    assert "lies up to 3 mm from its volume" in told


def test_a_mask_stored_in_another_orientation_fits(cohort):
    turned = np.zeros((10, 12, 5), np.uint8)
    turned[4:6, 4:6, 1:3] = 1  # slices 2 and 3, counted from the other end
    affine = AFFINE.copy()
    affine[:3, 2], affine[2, 3] = -affine[:3, 2], 16
    save(cohort / "well" / "p0" / "scan_seg.nii.gz", turned, affine)
    marked = find(cohort, slices="foreground", masks="{stem}_seg.nii.gz").table
    assert marked.groupby("patient")["position"].agg(list).tolist() == [[2, 3]] * 4


def test_prepared_volumes_are_gathered_exactly(cohort, tmp_path):
    prepared = prepare("nifti", tmp_path / "out", input=cohort, columns=RULE,
                       masks="{stem}_seg.nii.gz")  # fmt: skip
    manifest = read_manifest(prepared.manifest)
    assert manifest.card.patient_rule == r"the group of the pattern (p\d) in the file name"
    assert not set(manifest.table["patient"]) & {"p0", "p1", "p2", "p3"}
    assert all("scan" not in series for series in manifest.table["series"])
    assert manifest.table.groupby("series")["label"].nunique().tolist() == [1] * 4
    assert {"axis", "spacing_x_mm", "spacing_y_mm"} <= set(manifest.carried)
    reader = Reader(size=None, window=(0, 65535), depth=16)
    store = open_store(manifest.files(), manifest.table["frame"].tolist(), reader,
                       cache=tmp_path / "cache", progress=False)  # fmt: skip
    order = np.random.default_rng(0).permutation(20)
    batch = store.gather(order)
    for pixels, row in zip(batch, order, strict=True):
        file = manifest.files()[row]
        number = int(file.parent.name[1])
        position = int(manifest.table["position"][row])
        assert np.array_equal(pixels[..., 0], draw(number)[:, :, position].T)


def test_broken_volumes_stop_or_are_left_out_by_choice(cohort, tmp_path):
    (cohort / "well" / "p0" / "bad.nii").write_bytes(b"x" * 500)
    nibabel.save(nibabel.Nifti1Pair(draw(1), AFFINE), cohort / "well" / "p0" / "old.hdr")
    options = {"input": cohort, "columns": RULE, "masks": "{stem}_seg.nii.gz"}
    with pytest.raises(MedvisionError) as caught:
        prepare("nifti", tmp_path / "out", **options)
    told = str(caught.value)
    assert told.startswith("2 of 22 images cannot be used: ")
    assert "bad.nii is not a NIfTI file" in told
    assert "old.hdr is half of a pair" in told
    kept = prepare("nifti", tmp_path / "out", on_unreadable="exclude", **options)
    assert (len(kept.table), len(kept.left_out)) == (20, 2)


@pytest.mark.parametrize("written", ["scans/p{}.nii.gz", "p{}.nii.gz", "{top}/p{}.nii.gz", "p{}"])
def test_a_plain_table_of_paths_and_labels_will_do(tmp_path, written):
    top = tmp_path / "scans"
    for number in range(4):
        save(top / f"p{number}.nii.gz", draw(number))
    lines = [f"{written.format(number, top=top)},{'ill' if number % 2 else 'well'}"
             for number in range(4)]  # fmt: skip
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *lines]))
    prepared = prepare("nifti", tmp_path / "out", input=top, columns=RULE, labels=str(table))
    assert prepared.table.groupby("label").size().to_dict() == {"ill": 10, "well": 10}
    assert prepared.card.facts["labels"]["lines_without_images"] == 0


def test_volumes_without_labels_are_odd_and_the_way_out_is_named(tmp_path):
    for number in range(4):
        save(tmp_path / "in" / f"p{number}.nii.gz", draw(number))
    prepared = prepare("nifti", tmp_path / "out", input=tmp_path / "in", columns=RULE)
    told = [note for note in prepared.audit if "label" in note]
    assert told == [
        "no image has a label, so no classifier can be trained: say labels=FILE.csv, a table with "
        "the columns path and label"
    ]
    asked = prepare("nifti", tmp_path / "b", input=tmp_path / "in", columns=RULE, labels="none")
    assert not [note for note in asked.audit if "label" in note]

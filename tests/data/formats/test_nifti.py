import gzip
import itertools

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff

from medvision.data.formats.decode import decode, load_frames
from medvision.data.formats.listing import count_frames
from medvision.data.formats.nifti import PLANE, VolumeFile
from medvision.errors import MedvisionError

SHAPE, SPACING = (5, 6, 4), (0.7, 0.8, 3.0)  # right, anterior, superior
ORIGIN = (-10.0, -20.0, 30.0)
ORIENTATIONS = [
    np.array(list(zip(order, flips, strict=True)))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def ras(kind=np.int16):
    return np.random.default_rng(0).permutation(120).reshape(SHAPE).astype(kind)


def tilt():
    """A scanner's oblique frame: the patient's axes turned by some degrees."""
    a, b = np.deg2rad([8, -11])
    around_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    around_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(around_z) @ around_x @ np.diag(SPACING)
    affine[:3, 3] = ORIGIN
    return affine


def save(path, voxels, affine=None, kind=nibabel.Nifti1Image, **fields):
    image = kind(voxels, np.diag([*SPACING, 1]) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def refusal(path, frame=0):
    with pytest.raises(MedvisionError) as caught:
        decode(path, frame)
    return str(caught.value).removeprefix(f"{path} ")


def all_slices(path):
    volume = VolumeFile(path)
    return {
        axis: [
            (volume.frame(volume.number(axis, k)), round(volume.position_mm(axis, k), 4))
            for k in range(volume.slices(axis))
        ]
        for axis in ("axial", "coronal", "sagittal")
    }


def test_there_are_48_orientations():
    assert len({turn.tobytes() for turn in ORIENTATIONS}) == 48


@pytest.mark.parametrize("affine", [np.diag([*SPACING, 1.0]), tilt()], ids=["straight", "oblique"])
def test_every_stored_orientation_gives_identical_slices(tmp_path, affine):
    truth = all_slices(save(tmp_path / "ras.nii", ras(), affine))
    for number, turn in enumerate(ORIENTATIONS):
        stored = apply_orientation(ras(), turn)
        path = save(tmp_path / f"{number}.nii", stored, affine @ inv_ornt_aff(turn, SHAPE))
        found = VolumeFile(path)
        assert (found.shape, found.axis) == (SHAPE, "axial")
        assert np.allclose(found.spacing_mm, SPACING, atol=1e-5)
        for axis, slices in all_slices(path).items():
            for (pixels, mm), (expected, expected_mm) in zip(slices, truth[axis], strict=True):
                assert np.array_equal(pixels, expected)
                assert mm == pytest.approx(expected_mm, abs=1e-3)


def test_rows_and_columns_are_those_of_a_radiologist(tmp_path):
    voxels = np.zeros(SHAPE, np.int16)
    voxels[-1, -1, -1] = 1  # right, anterior, superior
    voxels[0, 0, 0] = 2  # left, posterior, inferior
    slices = all_slices(save(tmp_path / "a.nii", voxels))
    axial, coronal, sagittal = (
        [pixels for pixels, _ in slices[axis]] for axis in ("axial", "coronal", "sagittal")
    )
    assert [a.shape for a in (axial[0], coronal[0], sagittal[0])] == [(6, 5), (4, 5), (4, 6)]
    assert axial[-1][0, 0] == 1  # the right on the left, anterior on top
    assert axial[0][-1, -1] == 2
    assert coronal[-1][0, 0] == 1  # the right on the left, superior on top
    assert coronal[0][-1, -1] == 2
    assert sagittal[-1][0, 0] == 1  # anterior on the left, superior on top
    assert sagittal[0][-1, -1] == 2


def test_places_and_spacings_are_in_millimetres(tmp_path):
    affine = np.diag([*SPACING, 1])
    affine[:3, 3] = ORIGIN
    volume = VolumeFile(save(tmp_path / "a.nii", ras(), affine))
    assert volume.in_plane_mm("axial") == pytest.approx((0.8, 0.7))
    assert volume.in_plane_mm("coronal") == pytest.approx((3.0, 0.7))
    assert volume.in_plane_mm("sagittal") == pytest.approx((3.0, 0.8))
    assert [volume.position_mm("axial", k) for k in range(2)] == pytest.approx([30, 33])
    assert [volume.position_mm("sagittal", k) for k in range(2)] == pytest.approx([-10, -9.3])
    metres = save(tmp_path / "m.nii", ras(), affine / 1000, xyzt_units=1)
    assert VolumeFile(metres).in_plane_mm("axial") == pytest.approx((0.8, 0.7))
    assert VolumeFile(metres).position_mm("coronal", 1) == pytest.approx(-19.2)


def test_slices_of_an_oblique_volume_lie_along_their_normal(tmp_path):
    volume = VolumeFile(save(tmp_path / "a.nii", ras(), tilt()))
    normal = tilt()[:3, 2] / 3.0
    expected = [normal @ (tilt() @ [0, 0, k, 1])[:3] for k in range(4)]
    assert [volume.position_mm("axial", k) for k in range(4)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_frames_decode_by_path_and_number(tmp_path, ending, kind):
    path = save(tmp_path / f"a{ending}", ras(), kind=kind)
    assert count_frames(path) == 4
    expected = ras()[::-1, ::-1, 2].T
    assert decode(path, 2).dtype == np.int16
    assert np.array_equal(decode(path, 2)[..., 0], expected)
    assert np.array_equal(decode(path, 3 * PLANE + 2)[..., 0], expected)
    assert np.array_equal(decode(path, 2 * PLANE + 5)[..., 0], ras()[::-1, 5, ::-1].T)
    assert np.array_equal(decode(path, PLANE)[..., 0], ras()[0, ::-1, ::-1].T)
    assert refusal(path, 4) == "has no frame 4, it holds 4 axial slices, counted from 0"
    assert "6 coronal slices, counted from 2000000" in refusal(path, 2 * PLANE + 6)
    assert "has no frame 4000000" in refusal(path, 4 * PLANE)
    assert "has no frame -1" in refusal(path, -1)


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), "axial"), ((1, 1, 5), "axial"), ((1, 5, 1), "coronal"), ((5, 1, 1), "sagittal"),
     ((5, 1, 4.99), "axial"), ((5, 5, 1), "coronal")],
)  # fmt: skip
def test_the_own_axis_is_that_of_the_largest_spacing(tmp_path, spacing, axis):
    path = save(tmp_path / "a.nii", ras(), np.diag([*spacing, 1]))
    assert VolumeFile(path).axis == axis


def test_a_flat_volume_is_one_image(tmp_path):
    flat = save(tmp_path / "a.nii", ras()[:, :, 0], np.diag([5, 1, 1, 1]))
    assert VolumeFile(flat).axis == "axial"
    assert decode(flat).shape == (6, 5, 1)
    line = save(tmp_path / "b.nii", ras()[:, :1, :1])
    assert "is only" in refusal(line)


def test_scaling_gives_float32_and_its_absence_keeps_integers(tmp_path):
    path = save(tmp_path / "a.nii", ras())
    image = nibabel.Nifti1Image(ras(), np.diag([*SPACING, 1]))
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, path)
    stored = nibabel.load(path)
    found = decode(path, 1)[..., 0]
    assert found.dtype == np.float32
    assert np.array_equal(found, stored.get_fdata()[::-1, ::-1, 1].T.astype(np.float32))
    for kind in (np.uint8, np.uint16, np.int16, np.int32, np.float32):
        plain = save(tmp_path / "b.nii", ras(kind))
        assert decode(plain, 1).dtype == kind
    swapped = nibabel.Nifti1Image(ras(), np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(swapped, tmp_path / "c.nii")
    assert np.array_equal(decode(tmp_path / "c.nii", 1)[..., 0], ras()[::-1, ::-1, 1].T)


def test_a_fourth_axis_is_counted_through_volume_by_volume(tmp_path):
    many = np.stack([ras(), ras() + 200, ras() + 400], axis=-1)
    path = save(tmp_path / "a.nii.gz", many)
    image = nibabel.load(path)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 1500
    nibabel.save(image, path)
    volume = VolumeFile(path)
    assert (len(volume), volume.volumes, volume.step_s) == (12, 3, 1.5)
    for v, k in itertools.product(range(3), range(4)):
        assert np.array_equal(decode(path, v * 4 + k)[..., 0], many[::-1, ::-1, k, v].T)
    number = volume.number("sagittal", 3, 2)
    assert np.array_equal(decode(path, number)[..., 0], many[3, ::-1, ::-1, 2].T)


def test_colour_voxels(tmp_path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    voxels = np.zeros(SHAPE, kind)
    voxels["R"], voxels["B"] = ras(np.uint8), 7
    found = decode(save(tmp_path / "a.nii", voxels), 3)
    assert found.shape == (6, 5, 3)
    assert np.array_equal(found[..., 0], ras(np.uint8)[::-1, ::-1, 3].T)
    assert (found[..., 2] == 7).all()


def test_a_file_is_opened_once_for_its_frames(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz", ras())
    opened = []
    read = VolumeFile._voxel_bytes
    monkeypatch.setattr(VolumeFile, "_voxel_bytes", lambda self: opened.append(1) or read(self))
    frames = [0, 1, 2, 3, 99, PLANE + 1]
    found = list(load_frames(path, frames))
    assert [isinstance(each, MedvisionError) for each in found] == [f == 99 for f in frames]
    assert opened == [1]


def test_nan_voxels_are_refused_where_they_are(tmp_path):
    voxels = ras(np.float32)
    voxels[0, 0, 2] = np.nan
    path = save(tmp_path / "a.nii", voxels)
    assert decode(path, 1).dtype == np.float32
    assert "has 1 pixels that are NaN or infinite" in refusal(path, 2)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_cut_file_is_refused_wherever_it_was_cut(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", ras())
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        told = refusal(path, 3)
        assert "is truncated" in told or "is empty" in told
        assert told.endswith("copy it again from its source")


def test_changed_bytes_of_a_packed_file_never_give_other_pixels(tmp_path):
    path = save(tmp_path / "a.nii.gz", ras())
    truth, whole = decode(path, 1), path.read_bytes()
    for place in range(10, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        (found,) = load_frames(path, [1])
        assert isinstance(found, MedvisionError) or np.array_equal(found.pixels, truth)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("magic", b"ni1", "is half of a pair (.hdr and .img), convert the pair to one .nii.gz"),
        ("magic", b"", "has a broken NIfTI header"),
        ("datatype", 999, "has a broken NIfTI header"),
        ("vox_offset", 0, "has a broken NIfTI header"),
        ("vox_offset", 1e30, "is truncated"),
        ("vox_offset", np.nan, "has a broken NIfTI header"),
        ("sform_code", 77, "has a broken NIfTI header"),
        ("srow_x", np.nan, "has a broken NIfTI header"),
        ("srow_x", 0, "has a broken NIfTI header"),
        ("dim", [3, 5, 0, 4, 1, 1, 1, 1], "has a broken NIfTI header"),
        ("dim", [3, 3000, 3000, 3000, 1, 1, 1, 1], "is truncated"),
        ("dim", [5, 5, 6, 2, 1, 2, 1, 1], "has 5 axes (5 x 6 x 2 x 1 x 2 voxels)"),
        ("sizeof_hdr", 1, "is not a NIfTI file"),
    ],
)
def test_broken_headers_are_one_sentence(tmp_path, field, value, told):
    path = save(tmp_path / "a.nii", ras())
    header = nibabel.load(path).header.copy()
    header["descrip"] = b"DOE^JANE"
    header["vox_offset"] = 352
    header[field] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    found = refusal(path)
    assert found.startswith(told)
    assert "\n" not in found
    assert "DOE" not in found


def test_headers_nobody_can_orient_are_told_or_refused(tmp_path):
    plain = nibabel.Nifti1Image(ras(), None)
    plain.header["pixdim"][1:4] = SPACING
    nibabel.save(plain, tmp_path / "a.nii")
    volume = VolumeFile(tmp_path / "a.nii")
    assert "left and right are assumed" in volume.doubt
    path = save(tmp_path / "b.nii", ras())
    assert VolumeFile(path).doubt == ""
    image = nibabel.load(path)
    image.set_qform(np.diag([-0.7, 0.8, 3, 1]), code=1)
    nibabel.save(image, tmp_path / "c.nii")
    assert "disagree" in VolumeFile(tmp_path / "c.nii").doubt
    header = plain.header.copy()
    header["pixdim"][1:4] = 0
    header["vox_offset"] = 352
    (tmp_path / "d.nii").write_bytes(header.binaryblock + bytes(4) + ras().tobytes("F"))
    assert "its voxels have no size" in refusal(tmp_path / "d.nii")


def test_names_that_lie_and_pairs(tmp_path):
    save(tmp_path / "a.nii", ras())
    (tmp_path / "packed.nii").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "a.nii").read_bytes())
    for name in ("packed.nii", "plain.nii.gz"):
        assert np.array_equal(decode(tmp_path / name, 1), decode(tmp_path / "a.nii", 1))
    nibabel.save(nibabel.Nifti1Pair(ras(), np.eye(4)), tmp_path / "pair.img")
    for name in ("pair.img", "pair.hdr"):
        assert refusal(tmp_path / name).startswith("is half of a pair (.hdr and .img)")
    (tmp_path / "text.nii").write_text("patient,label\n" * 100)
    assert refusal(tmp_path / "text.nii") == "is not a NIfTI file, give .nii or .nii.gz files"
    assert refusal(tmp_path / "none.nii.gz") == "does not exist, check the path"

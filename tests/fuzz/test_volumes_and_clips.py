"""NIfTI volumes and clips with damaged bytes, and volumes whose headers say anything."""

import gzip

import cv2
import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from medvision.data.formats.decode import open_frames
from medvision.data.formats.nifti import AXES, VolumeFile
from medvision.data.sources.nifti import find as find_nifti
from medvision.data.sources.video import find as find_video

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK_OR_FULL = pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
SUMMED = ".gz"  # its sum covers every voxel and the header

DRAW = np.random.default_rng(0)
VOXELS = DRAW.integers(0, 999, (6, 5, 4)).astype(np.int16)
FRAMES = DRAW.integers(0, 255, (4, 16, 24, 3), dtype=np.uint8)


def volume(voxels=VOXELS, kind=nibabel.Nifti1Image, packed=False, **fields):
    image = kind(voxels, np.diag([0.7, 0.8, 3.0, 1.0]))
    for name, value in fields.items():
        image.header[name] = value
    content = image.to_bytes()
    return gzip.compress(content, mtime=0) if packed else content


def clip(folder, name, code):
    path = folder / name
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25.0, FRAMES.shape[2:0:-1]
    )
    for frame in FRAMES:
        writer.write(frame)
    writer.release()
    return path.read_bytes()


def gif(folder):
    greys = [Image.fromarray(frame[..., 0] // 32 * 32) for frame in FRAMES]
    path = folder / "made.gif"
    greys[0].save(path, save_all=True, append_images=greys[1:], duration=40, loop=0)
    return path.read_bytes()


MAKERS = {
    "plain.nii": lambda folder: volume(),
    "second.nii": lambda folder: volume(kind=nibabel.Nifti2Image),
    "packed.nii.gz": lambda folder: volume(packed=True),
    "time.nii.gz": lambda folder: volume(
        np.arange(96, dtype=np.float32).reshape(4, 4, 3, 2), packed=True
    ),
    "few.gif": gif,
    "mjpg.avi": lambda folder: clip(folder, "a.avi", "MJPG"),
    "ffv1.avi": lambda folder: clip(folder, "b.avi", "FFV1"),
    "mpeg4.mp4": lambda folder: clip(folder, "c.mp4", "mp4v"),
}


@QUICK_OR_FULL
@pytest.mark.parametrize("name", MAKERS)
def test_damaged_bytes(tmp_path, tally, look, damage, name, full, capfd):
    content, path = MAKERS[name](tmp_path), tmp_path / "damaged" / name
    path.parent.mkdir()
    path.write_bytes(content)
    whole = np.stack(look(path, (0, 1)))
    find = find_nifti if ".nii" in name else find_video
    for told, damaged in damage(content, name, full):
        path.write_bytes(damaged)
        with tally.one(name.partition(".")[2], (name, told), whole) as seen:
            found = look(path, (0, 1))
            refused = [frame for frame in found if isinstance(frame, str)]
            same = not refused and found[0].shape == found[1].shape
            seen.found = refused[0] if refused else np.stack(found) if same else found[0]
            strict = name.endswith(SUMMED) or told.startswith(("cut", "junk"))
            assert not (strict and seen.is_other()), "other pixels"
            rows = find(path.parent, columns={"patient": "path"}, labels="none").table
            assert len(rows) >= 1  # what is broken has a row, and is told when that is decoded
            if not refused:
                assert len(rows) == len(open_frames(path))
    assert capfd.readouterr().err == ""


NUMBERS = st.one_of(
    st.sampled_from([0.0, -1.0, 1.0, 2.0, 1e-30, 1e30, np.nan, np.inf, -np.inf]),
    st.floats(width=32),
)
SHORTS = st.one_of(st.integers(-2, 8), st.sampled_from([255, 512, 16384, 32767, -32768]))
FIELDS = {
    "dim": st.tuples(*[SHORTS] * 5).map(lambda d: [*d, 1, 1, 1]),
    "datatype": st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 2304, 9999]),
    "bitpix": SHORTS,
    "pixdim": st.tuples(*[NUMBERS] * 5).map(lambda d: [*d, 0, 0, 0]),
    "vox_offset": st.sampled_from([0.0, 352.0, 300.0, 354.0, -1.0, 1e30, np.nan]),
    "scl_slope": NUMBERS, "scl_inter": NUMBERS, "xyzt_units": st.integers(0, 255),
    "qform_code": SHORTS, "sform_code": SHORTS, "quatern_b": NUMBERS, "quatern_c": NUMBERS,
    "qoffset_x": NUMBERS,
    **{f"srow_{axis}": st.tuples(*[NUMBERS] * 4) for axis in "xyz"},
    "magic": st.sampled_from([b"n+1", b"ni1", b"n+2", b"", b"abc"]),
    "sizeof_hdr": st.sampled_from([348, 540, 0, -1]), "intent_code": SHORTS,
}  # fmt: skip
headers = st.lists(
    st.sampled_from(sorted(FIELDS)).flatmap(lambda f: st.tuples(st.just(f), FIELDS[f])),
    min_size=1, max_size=3, unique_by=lambda pair: pair[0],
)  # fmt: skip


def said(header, packed):
    """A volume whose header says what it likes; nibabel's own setters would mend it."""
    content = bytearray(volume())
    block = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in header:
        with np.errstate(all="ignore"):
            block._structarr[name] = value
    content[:348] = block.binaryblock
    return gzip.compress(bytes(content), mtime=0) if packed else bytes(content)


def by_nibabel(path, axis):
    """The first slice along an axis as it is shown, by nibabel alone; None where it cannot."""
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        voxels = np.asarray(image.dataobj)
    except Exception:
        return None
    voxels = voxels.reshape((*voxels.shape, 1, 1)[:4])[..., 0]
    return np.moveaxis(voxels, AXES.index(axis), 0)[0][::-1, ::-1].T


@QUICK_OR_FULL
def test_headers_that_say_anything(tmp_path, tally, look, full):
    @settings(max_examples=1200 if full else 120, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(headers, st.booleans())
    @example([("dim", [3, 32767, 2, 30000, 1, 1, 1, 1])], False)
    def holds(header, packed):
        path = tmp_path / "a.nii.gz" if packed else tmp_path / "a.nii"
        path.write_bytes(said(header, packed))
        with tally.one("nii, headers", (header, packed)) as seen:
            (seen.found,) = look(path)
            find_nifti(tmp_path, columns={"patient": "path"}, labels="none")
            if isinstance(seen.found, np.ndarray):
                expected = by_nibabel(path, VolumeFile(path).axis)
                if expected is not None and expected.dtype.names is None:
                    shown = seen.found[..., 0]
                    assert np.allclose(shown, expected.astype(np.float32), rtol=1e-5)
        path.unlink()

    holds()

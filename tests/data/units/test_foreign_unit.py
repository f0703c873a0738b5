"""A unit in a package of a user's, a volume stacked from its slices: from batches to prediction."""

import json
import sys
import textwrap

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.store.reader import Reader
from medvision.data.units.unit import list_units, read_unit
from medvision.errors import MedvisionError
from medvision.model import load_model

pytestmark = pytest.mark.usefixtures("dots")

VOLUME = '''
    """A sample is a volume: `depth` slices of a series, evenly spread, `image` `[B,C,D,H,W]`."""

    from dataclasses import dataclass, replace

    import numpy as np
    from torch import nn

    from medvision.data.units.grouped import Grouped
    from medvision.data.units.series_form import SeriesForm


    @dataclass(frozen=True)
    class Volume(Grouped):
        @property
        def depth(self):
            return self.form.max_slices

        def lay_out(self, index, draw=None):
            lengths = self.slices.lengths(index)
            spread = [np.linspace(0, n - 1, self.depth).round().astype(int) for n in lengths]
            own = self.slices.lay_out(index, spread)
            return replace(own, entries={"thickness": own.entries["step"][:, 0]}, slots={})

        def channels(self, stored):
            return stored

        def finish(self, image, batch, maps=()):
            return batch | {"image": image.unflatten(0, (-1, self.depth)).transpose(1, 2)}

        def take_apart(self, batch):
            image = batch["image"].transpose(1, 2)
            return image.flatten(0, 1), np.repeat(np.arange(len(image)), self.depth), {}

        def pictures(self, image, stored):
            return image.transpose(0, 1)


    def build(max_slices=3, on_gap="error"):
        return Volume(SeriesForm(max_slices=max_slices, on_gap=on_gap))


    class Net(nn.Module):
        def __init__(self, num_classes, in_channels=1):
            super().__init__()
            self.maps = nn.Conv3d(in_channels, 6, 3, padding=1)
            self.head = nn.Linear(6, num_classes)

        def forward(self, image):
            return self.head(self.maps(image).relu().amax((2, 3, 4)))
'''
WORDS = (
    "model=convnet_small", "model.net={_target_:planted.volume.Net,_partial_:true}",
    "~model.net.widths", "~model.net.blocks", "~model.net.activation", "~model.net.norm",
    "~model.net.stem_stride", "~model.net.dropout", "model.channels_last=false",
    "data.unit=planted.volume", "data.max_slices=3", "data.reader.size=[24,24]",
    "data.reader.window=[-100,200]", "data.batch_size=8", "data.workers=1", "augment=ct", "tta=1",
    "trainer.max_epochs=1", "threads=1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """The module that holds the unit and a net that reads it."""
    place = tmp_path_factory.mktemp("package")
    (place / "planted").mkdir()
    (place / "planted" / "__init__.py").touch()
    (place / "planted" / "volume.py").write_text(textwrap.dedent(VOLUME))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        yield
    for name in ("planted", "planted.volume"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(package, phantom, places, medvision):
    """The folder of a finished run over volumes."""
    done = medvision("train", "data=manifest", f"data.manifest={phantom}", *WORDS, "name=volume")
    assert done.status == 0, done.err
    (folder,) = (p for p in (places / "runs" / "volume").iterdir() if p.is_dir())
    return folder


def test_batches_are_stacked_from_the_slices_in_their_order(phantom):
    data = ImageDataModule(manifest=str(phantom), reader=Reader(size=(24, 24)), batch_size=4,
                           unit="planted.volume", max_slices=3)  # fmt: skip
    samples = data.ready
    batch = next(samples.batches(samples.rows("train"), 4))
    assert batch["image"].shape == (4, 1, 3, 24, 24)
    assert (batch["thickness"] == 27).all()  # the median step of three slices of four, 18 mm apart
    table = samples.table
    for index, volume in zip(batch["index"].tolist(), batch["image"], strict=True):
        own = table[table["series"] == table["series"][index]].sort_values("position")
        rows = own.index[[0, 2, 3]].to_numpy()  # three of four, evenly spread
        stored = torch.from_numpy(samples.gather(rows)[..., 0]).float() / 255
        assert torch.equal(volume[0], stored)
    served = next(iter(data.train_dataloader()))
    ready = data.on_after_batch_transfer(data.on_before_batch_transfer(served, 0), 0)
    assert ready["image"].shape == (4, 1, 3, 24, 24)


def test_a_run_of_volumes_holds_what_a_run_holds(run):
    model = load_model(run / "model.pt")
    assert (model.unit["name"], model.unit["max_slices"]) == ("planted.volume", 3)
    assert read_unit(model.unit).depth == 3
    metrics = json.loads((run / "metrics.json").read_text())
    table = pd.read_csv(run / "predictions" / "test.csv")
    assert metrics["n"]["test"]["series"] == len(table) == table["series"].nunique()
    assert not (run / "predictions" / "test_slices.csv").exists()
    assert list((run / "figures").glob("case_*.png"))
    assert "n series" in (run / "report.html").read_text()


def test_new_volumes_are_predicted_as_they_were_in_the_run(run, tmp_path, medvision):
    words = ("predict", f"run={run}", f"output={tmp_path / 'new.csv'}")
    done = medvision(*words, f"input={run / 'manifest.csv'}")
    assert done.status == 0, done.err
    table = pd.read_csv(tmp_path / "new.csv").set_index("series")
    stored = pd.read_csv(run / "predictions" / "test.csv").set_index("series")
    mine = table.loc[stored.index]
    # The augmented view is drawn by the number of the sample, which is another.
    assert np.abs(mine["prob_lesion"] - stored["prob_lesion"]).max() < 0.05
    assert (table["slices"] == 3).all()
    (tmp_path / "in").mkdir()
    voxels = np.random.default_rng(0).integers(-100, 200, (24, 24, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "in" / "v.nii.gz")
    done = medvision(*words, f"input={tmp_path / 'in'}", "on_foreign=warn")
    assert done.status == 0, done.err
    assert pd.read_csv(tmp_path / "new.csv")["slices"].tolist() == [3]


def test_a_unit_that_is_not_there_is_refused():
    assert list_units() == ["image", "series"]
    with pytest.raises(MedvisionError, match=r"data\.unit=nowhere\.at\.all cannot be; choose im"):
        ImageDataModule(unit="nowhere.at.all")

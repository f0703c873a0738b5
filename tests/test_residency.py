"""Where pixels live changes no bit of a training."""

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from medvision.runs import Run
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.fit import fit
from medvision.training.job import prepare_job

IMAGES = ("model.net.widths=[4,8]", "data.backend=host")
SERIES = (
    "model=rnn", "data.unit=series", "model.net.encoder.widths=[4,8]", "model.net.hidden=4",
    "data.neighbours=1", "data.sequence.drop=0.2", "data.backend=device",
)  # fmt: skip


def train(words, folder):
    """Train for two epochs as the command does; return weights, and what `history.csv` tells."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        job = prepare_job(compose("train", ["name=tested", *words]))
    trainer, task, *_ = fit(Run(folder), job, "new", [])
    assert trainer.current_epoch == 2
    return task.state_dict(), pd.read_csv(folder / "history.csv").drop(columns="seconds")


@pytest.mark.parametrize("words", [IMAGES, SERIES], ids=["images", "series"])
def test_a_training_ends_with_the_same_weights(words, phantom, tmp_path):
    given = (
        "data=manifest", f"data.manifest='{phantom}'", "data.reader.size=[32,32]",
        "data.reader.window=[-100,200]", "data.batch_size=16", "data.workers=1",
        "trainer.max_epochs=2", "trainer.accelerator=cpu", "allocator=system", *words,
    )  # fmt: skip
    on_disk, told = train((*given, "data.residency=disk"), tmp_path / "disk")
    for residency in ("host", "device"):
        weights, history = train((*given, f"data.residency={residency}"), tmp_path / residency)
        assert all(torch.equal(weights[name], value) for name, value in on_disk.items())
        pd.testing.assert_frame_equal(history, told, check_exact=True)

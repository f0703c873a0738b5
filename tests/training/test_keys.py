import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from medvision.errors import MedvisionError
from medvision.runs import Run, run_key
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.explain import explain
from medvision.training.keys import check_keys, check_logger
from medvision.training.tensorboard import open_loggers


@pytest.fixture
def composed():
    """`composed("logger=csv")` → the configuration."""
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield lambda *words: compose("train", ["name=tested", *words])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("+trainer.logger=false", "trainer.logger, which a run sets itself: TensorBoard is always"),
        ("+trainer.max_epoch=3", r"trainer.max_epoch \(did you mean 'max_epochs'\?\)"),
        ("+trainer.fast_dev_run=true", "trainer=debug takes two batches"),
        ("+tag=[a]", r"tag \(did you mean 'tags'\?\)"),
        ("+whatever=1", "keys that nobody reads: whatever. Leave them out"),
    ],
)
def test_a_key_that_nobody_reads_is_refused_with_the_nearest(composed, word, told):
    with pytest.raises(MedvisionError, match=told):
        check_keys(composed(word))


def test_what_there_is_passes(composed):
    check_keys(
        composed("tags=[pilot]", "logger=csv", "+trainer.deterministic=true", "judge=default")
    )


def test_a_group_is_chosen_without_a_plus(composed):
    with pytest.raises(Exception, match="logger") as caught:
        composed("+logger=csv")
    assert explain(caught.value) == "logger is there already: write logger=… without the +"


def test_tags_are_words(composed):
    with pytest.raises(MedvisionError, match=r"must be a list of words, as in tags=\[pilot\]"):
        check_keys(composed("tags=[1]"))


def test_tags_and_loggers_rename_no_run():
    plain = {"name": "a", "seed": 0}
    more = plain | {"tags": ["x"], "logger": {"_target_": "y"}}
    assert run_key(["tags=[x]", "logger=csv"], more, []) == run_key([], plain, [])


def test_a_logger_whose_package_is_missing_is_told_before_anything_else(composed, monkeypatch):
    monkeypatch.setattr("medvision.training.keys.find_spec", lambda name: None)
    check_logger(composed("logger=csv"))
    with pytest.raises(MedvisionError, match="needs the package wandb; add it with: pip install"):
        check_logger(composed("logger=wandb"))


def test_curves_go_to_a_file_beside_tensorboard_and_tags_are_kept(tiny, apart, medvision):
    words = ("logger=csv", "tags=[pilot,site_b]", "trainer.max_epochs=1", "test=false")
    done = medvision(*tiny, *words)
    assert done.status == 0, done.err
    (folder,) = (p for p in apart.glob("manifest/*") if p.is_dir())
    assert "val/loss" in (folder / "csv" / "metrics.csv").read_text()
    assert list(folder.glob("events.out.tfevents.*"))
    assert '"pilot"' in (folder / "record.json").read_text()
    assert "Tags: pilot, site_b." in (folder / "report.html").read_text()


def test_the_run_fills_in_what_a_logger_leaves_empty(composed, tmp_path):
    board, table = open_loggers(Run(tmp_path), composed("logger=csv"))
    assert board.log_dir == str(tmp_path)
    assert table.log_dir.startswith(str(tmp_path / "csv"))


def test_a_net_that_is_not_there_is_told_before_training_is_said_to_begin(tiny, apart, medvision):
    words = [word for word in tiny if not word.startswith("model.")]
    done = medvision(*words, "model=torchvision", "model.net._target_=torchvision.models.resnet19")
    assert done.status == 2
    assert "training in" not in done.out
    assert "(did you mean 'resnet18'?)" in done.err


def test_a_look_at_every_step_leaves_the_test_part_closed(composed):
    assert composed().test
    assert not composed("trainer=debug").test

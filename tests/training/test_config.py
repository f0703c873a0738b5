import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import direction
from medvision.training.config import conf_folder, own_direction, quote
from medvision.training.explain import explain

PARSER = OverridesParser.create()


def heard(word):
    """What Hydra makes of a word after quoting."""
    override = PARSER.parse_override(quote(word))
    assert not override.is_sweep_override()
    return override.value()


@pytest.mark.parametrize(
    "value",
    [
        r"(p\d+)", r"^(\w+)_\d{3}\.png$", r"C:\data\x", "C:\\data\\", r"a\'b", "it's", "a b",
        "数据/肺 炎.csv", "a=b", "a:b", "(1)/[2]/{3}", "50%", "x;y&z", "*.csv", "p(", "~/x", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["data.manifest", "data.source.columns.patient"])
def test_a_value_reaches_us_as_typed(key, value):
    assert heard(f"{key}={value}") == value


@given(st.text(alphabet="ab01 '\\()[]{}:=%&;/.-_肺é", max_size=12))
def test_any_text_comes_through_or_is_read_as_hydra_reads_it(value):
    word = quote(f"k={value}")
    if word == f"k={value}":  # Hydra's own grammar takes it: numbers, lists, words
        PARSER.parse_override(word)
    else:
        assert PARSER.parse_override(word).value() == value


@pytest.mark.parametrize(
    "word", ["seed=3", "trainer.max_epochs=null", "model.net.widths=[8,16]", "-m", "--cfg", "job"]
)
def test_what_hydra_understands_is_left_alone(word):
    assert quote(word) == word


def test_a_sweep_stays_a_sweep_however_long_unless_it_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("seed=0,1,2", "seed=" + ",".join(map(str, range(300)))):
        assert quote(word) == word
        assert PARSER.parse_override(word).is_sweep_override()
    (tmp_path / "a,b.csv").touch()
    assert heard("data.manifest=a,b.csv") == "a,b.csv"


def test_the_fidelity_group_goes_by_both_its_names():
    assert quote("fidelity.run=plain") == "judge.run=plain"
    assert quote("fidelity=default") == "judge=default"
    assert quote("fidelity_weight=1") == "fidelity_weight=1"


@pytest.mark.parametrize(
    "key",
    ["data.annotation.targets", "data.columns.label", "data.rename.NCP", "data.source.patients"],
)
def test_keys_of_free_mappings_may_be_new(key):
    assert quote(f"{key}=x") == f"++{key}=x"
    assert quote(f"+{key}=x") == f"+{key}=x"


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/loss", "min"), ("val/brier", "min"), ("val/ece", "min"), ("val/auroc", "max")],
)
def test_a_monitor_tells_its_direction(monitor, mode):
    assert direction(monitor) == mode


def test_a_monitor_is_asked_of_the_task_of_the_model():
    classifier = "medvision.tasks.classification.task.Classifier"
    assert own_direction("val/auroc", classifier) == "max"
    assert own_direction("val/auroc", "nowhere.Task") == "max"  # who names it tells that it is not
    with pytest.raises(MedvisionError, match="val/gate_score is better high or low"):
        own_direction("val/gate_score", classifier)


def test_the_conf_folder_has_the_root_of_the_configuration():
    assert (conf_folder() / "train.yaml").is_file()


def raised(error_of):
    try:
        error_of()
    except Exception as error:
        return explain(error)
    raise AssertionError("nothing was raised")


def test_our_own_sentence_is_passed_on():
    assert explain(MedvisionError("a sentence")) == "a sentence"


def test_a_fault_of_ours_keeps_its_type_and_place():
    assert raised(lambda: {}["key"]).startswith("KeyError: 'key' (test_config.py:")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seeed=1", "there is no key 'seeed' (did you mean"),
        ("data=fantom", "data=fantom does not exist (did you mean 'phantom'?); use "),
        ("seed", "'seed' is not key=value; see all keys with: medvision train --cfg job"),
    ],
)
def test_words_of_hydra_become_one_sentence(word, sentence):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        told = raised(lambda: compose("train", overrides=[word]))
    assert told.startswith(sentence)
    assert "\n" not in told

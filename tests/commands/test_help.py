"""Help comes at once: nothing but our own few files and the standard library is imported for it."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest
import yaml

from medvision.__main__ import COMMANDS, USAGE
from medvision.commands.arguments import parse
from medvision.commands.help import TRUST, read_signature
from medvision.errors import MedvisionError
from medvision.files import conf_folder

SPY = """
import json, sys, time
before = {*sys.modules}
from medvision.__main__ import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as end:
    status = end.code
names = {name.partition(".")[0] for name in {*sys.modules} - before}
foreign = sorted(names - sys.stdlib_module_names - {"medvision"})
print(json.dumps([status, foreign, time.process_time()]), file=sys.stderr)
"""
SECONDS = 0.3  # of the processor, the interpreter's own start among them


def ask(*words):
    """Run a command in a process of its own → its output, its errors, its status."""
    done = subprocess.run(
        [sys.executable, "-c", SPY, json.dumps(words)], capture_output=True, text=True
    )
    *errors, told = done.stderr.strip().splitlines()
    status, foreign, seconds = json.loads(told)
    assert foreign == []
    assert seconds < SECONDS
    return done.stdout, errors, status


def list_parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_help_is_the_docstring_of_what_runs(command):
    if command == "tune":
        pytest.importorskip("optuna")
    module = importlib.import_module(f"medvision.commands.{command}")
    function = module.launch if command in ("tune", "completion") else module.run
    text, errors, status = ask(command, "nonsense", "--help")
    assert (errors, status) == ([], 0)
    assert text.startswith(f"medvision {command}\n\n{inspect.getdoc(function)}\n")
    assert text.endswith(f"\n{TRUST}\n") or command == "completion"
    assert list_parameters(read_signature(command)) == list_parameters(function)
    assert ask(command, "-h")[0] == text


def test_help_of_train_has_the_groups_that_hydra_has(medvision):
    text, errors, status = ask("train", "--help")
    assert (errors, status) == ([], 0)
    groups, config = text.split("== Config ==")
    assert groups == medvision("train", "--help", "seed=1").out.split("== Config ==")[0]
    for key in ("seed: 0", "operating_point: youden", "rerun: false", "model=rnn --cfg job"):
        assert key in config
    assert not {"defaults:", "hydra:"} & {*config.split()}


def test_help_of_train_tells_of_every_choice_what_it_is():
    text, _, _ = ask("train", "--help")
    lines = text.partition("== Choices ==")[2].splitlines()
    for group in ("experiment", "model", "data", "augment"):
        for path in (conf_folder() / group).glob("*.yaml"):
            (line,) = [line for line in lines if line.split()[:1] == [path.stem]]
            assert len(line.split()) > 2, line


def test_help_of_train_with_words_is_what_they_compose(medvision):
    text = medvision("train", "model=keras_cnn", "--help").out
    assert "medvision.nets.keras_cnn" in text
    assert "  init: xavier  # Keras' glorot_uniform\n" in text
    assert "--shell" not in medvision("train", "--hydra-help").out


def test_comments_of_conf_stand_beside_the_keys(medvision):
    text, _, _ = ask("train", "--help")
    for key, comment in {
        "data.reader.fit=pad": "pad | crop | stretch",
        "model.weights=null": "a weight file, a run, or a torchvision enum",
        "augment.flip_horizontal=false": "Mirror left and right in half of the images",
        "trainer.max_epochs=20": "the schedule of the learning rate ends with the last of them",
    }.items():
        assert any(line.startswith(key) and comment in line for line in text.splitlines()), key
    composed = medvision("train", "model=rnn", "--cfg", "job").out
    assert "\n    cell: gru  # gru | lstm | rnn | null (no recurrence" in composed
    assert yaml.safe_load(composed)["model"]["net"]["cell"] == "gru"
    assert "n_warmup_steps=5" in ask("tune", "--help")[0]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("line", ["medvision train model=rnn model.net.", "medvision predict run="])
def test_tab_is_answered_as_quickly(shell, line):
    text, errors, status = ask("completion", shell, line)
    assert (errors, status) == ([], 0)
    assert "model.net.cell=" in text or not line.endswith("net.")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_of_all(words):
    assert ask(*words) == (USAGE, [], 0)


def test_the_version_comes_as_quickly():
    text, errors, status = ask("--version")
    assert (errors, status) == ([], 0)
    assert text.strip().count(".") >= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluate", "rum=last"], "no argument 'rum' (did you mean 'run'?); it takes run, runs"),
        (["predict", "run=last"], "medvision predict needs input=…, output=…"),
        (["generate", "last"], "'last' is not key=value; medvision generate takes run, per_class"),
        (["compare", "runs=[a,b]", "split=train"], "split=train cannot be; choose val or test"),
    ],
)
def test_a_mistake_in_the_words_is_told_as_quickly(words, sentence):
    text, (error,), status = ask(*words)
    assert (text, status) == ("", 2)
    assert sentence in error


def test_a_choice_that_another_file_lists_is_still_checked(medvision):
    assert parse(["run=a", "on_foreign=wran"], read_signature("evaluate"), "evaluate")
    done = medvision("evaluate", "run=a", "on_foreign=wran")
    assert done.status == 2
    assert "on_foreign=wran cannot be (did you mean 'warn'?); choose stop or warn" in done.err


def test_a_key_of_a_choice_is_refused_though_another_file_lists_it():
    with pytest.raises(MedvisionError, match=r"on_foreign\.x= is too long a key"):
        parse(["run=a", "on_foreign.x=warn"], read_signature("evaluate"), "evaluate")

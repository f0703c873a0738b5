"""Tab completes commands, keys, choices and names of runs, in a real bash and a real zsh."""

import json
import os
import pty
import re
import select
import shutil
import sys
import time

import pytest

from medvision.__main__ import COMMANDS, USAGE
from medvision.commands.candidates import list_candidates, split_line
from medvision.commands.conf_text import list_groups

START = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
PATIENCE_S = 20
OPEN = "medvision predict 'runs=[alone,rates/lr=0.1"  # bash ends the quote that it completes in
CLOSED = {"bash": "", "zsh": "]'"}
LINES = {
    "medvision train model=rnn model.net.cell=gr": "model.net.cell=gru",
    "medvision predict input=ima": "input=images",
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A runs folder with one run under `alone` and two under `rates`."""
    for name in ("alone/seed=0-12345678", "rates/lr=0.1-aaaaaaaa", "rates/lr=0.2-bbbbbbbb"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({"status": "done"}))
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def command(runs, monkeypatch):
    """`medvision` as a command of the shell, where there is a folder `images`."""
    program = runs / "bin" / "medvision"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m medvision "$@"\n')
    program.chmod(0o755)
    (runs / "images").mkdir()
    monkeypatch.chdir(runs)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    for name, value in {"TERM": "dumb", "INPUTRC": "/dev/null", "ZDOTDIR": str(runs)}.items():
        monkeypatch.setenv(name, value)


class Shell:
    """A shell at a terminal of its own, which has read the script."""

    def __init__(self, name):
        self.child, self.terminal = pty.fork()
        if not self.child:
            os.execvp(START[name][0], START[name])
        self.type(f'eval "$(medvision completion {name})"; echo read""y\n')
        self.read_until("ready")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def read_until(self, word):
        seen, end = "", time.monotonic() + PATIENCE_S
        while word not in seen:
            assert time.monotonic() < end, f"no {word!r} in {seen!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                seen += os.read(self.terminal, 65536).decode(errors="replace")
        return seen

    def complete(self, line, rest=""):
        """Return the last word of the line after Tab and, perhaps, more; empty the line."""
        self.type(f"{line}\t{rest}\x01printf '<%s>' \x05 end\n")  # at the line's begin, at its end
        words = re.findall(r"<([^<>]*)>", self.read_until("<end>"))
        return words[-2]

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.child, 0)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_in_a_shell(name, command):
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    shell = Shell(name)
    try:
        assert {line: shell.complete(line).rstrip("/") for line in LINES} == LINES
        word = shell.complete(OPEN, CLOSED[name])
        assert word.rstrip("]") == "runs=[alone,rates/lr=0.1-aaaaaaaa"
    finally:
        shell.close()


def ask(line, breaks=""):
    """Return what is offered, without the blank of whole words."""
    typed = split_line(line, breaks)
    return [candidate.text.rstrip()[typed.begin :] for candidate in list_candidates(typed, USAGE)]


def test_every_command_is_offered_and_told():
    assert ask("medvision ") == [*COMMANDS, "--help"]
    told = dict(list_candidates(split_line("medvision "), USAGE))
    assert told["tune "] == "search the experiment's space on val, with Optuna"
    assert ask("medvision nonsense ") == []


@pytest.mark.parametrize("group", list_groups())
def test_every_choice_is_offered(group):
    assert ask(f"medvision train {group}=") == [f"{group}={c}" for c in list_groups()[group]]
    assert f"{group}=" in ask("medvision train ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train data.on_leak=", "data.on_leak=error data.on_leak=drop"),
        ("train operating_point=se", "operating_point=sensitivity>=0.95"),
        ("train test=", "test=true test=false"),
        ("train --cfg ", "job hydra all"),
        ("train ++trainer.max_", "++trainer.max_epochs= ++trainer.max_steps="),
        ("train -m hydra/launcher=j", "hydra/launcher=joblib"),
        ("train data.source.name=me", "data.source.name=medmnist"),
        ("train -m seed=1 model=rnn,me", "model=rnn,mean_pool"),
        ("prepare source=d", "source=dicom"),
        ("prepare source=dicom cha", "channels."),
        ("prepare source=nifti cha", ""),
        ("evaluate on_foreign=", "on_foreign=warn"),
        ("evaluate data.", "data.manifest= data.columns. data.rename. data.on_gap="),
        ("compare split=", "split=val split=test"),
        ("predict run=", "run=last run=alone run=rates/"),
        ("predict 'runs=[alone,r", "runs=[alone,rates runs=[alone,rates/"),
        ("report run=", "run=last run=alone run=rates run=rates/"),
        ("train model.weights=rates/lr=0.1", "model.weights=rates/lr=0.1-aaaaaaaa"),
        ("train judge=default judge.run=a", "judge.run=alone"),
        ("train name=ra", "name=rates"),
        ("tune sampler.n", "sampler.n_startup_trials="),
        ("tune trials=", ""),
        ("completion ", "bash zsh"),
    ],
)  # fmt: skip
def test_what_is_offered(line, expected, runs):
    assert ask(f"medvision {line}") == expected.split()


def test_keys_are_those_of_the_choices_on_the_line():
    assert "model.net.cell=" in ask("medvision train model=rnn model.net.")
    assert "model.net.cell=" not in ask("medvision train model.net.")
    assert "model.generator." in ask("medvision train experiment=dcgan_phantom model.")
    assert {"data.reader.", "data.classes=", "data.columns."} <= {*ask("medvision train data.")}


def test_bash_is_answered_from_where_it_parts_words():
    assert ask("medvision train model=ke", "=:") == ["keras_cnn"]
    assert ask("medvision train 'model=ke", "=:") == ["model=keras_cnn"]
    assert split_line('a \'b c\' "d\\"e" f\\ g', "=")[:2] == (["b c", 'd"e'], "f g")


def test_names_of_runs_move_no_cursor(runs, medvision):
    folder = runs / "runs" / "a\x1b[2Jb" / "seed=0"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    for shell in ("bash", "zsh"):
        assert "run=a\\x1b[2Jb" in medvision("completion", shell, "medvision predict run=a").out


def test_another_shell_is_refused(medvision):
    done = medvision("completion", "zssh")
    assert (done.status, done.out) == (2, "")
    assert "needs a shell (did you mean 'zsh'?): bash or zsh" in done.err
    done = medvision("train", "-sc", "install=bash")
    assert done.status == 2
    assert 'eval "$(medvision completion bash)"' in done.err

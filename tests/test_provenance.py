import sys

from medvision import provenance


def test_the_process_is_described_for_a_repeat(monkeypatch):
    monkeypatch.setenv("MEDVISION_COMMAND", "medvision train seed=3 'name=a b'")
    told = provenance.describe_process(3)
    assert told["command"] == "medvision train seed=3 'name=a b'"
    assert told["seed"] == 3
    assert set(provenance.PACKAGES) == set(told["versions"])
    assert len(told["code"]["digest"]) == 16
    monkeypatch.delenv("MEDVISION_COMMAND")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/medvision", "evaluate", "run=last"])
    assert provenance.command_line() == "medvision evaluate run=last"
    monkeypatch.setattr(sys, "argv", ["/home/me/own loop.py", "3"])
    assert provenance.command_line() == "python 'own loop.py' 3"


def test_code_is_described_without_git(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance.subprocess, "run", absent)
    assert set(provenance.describe_code()) == {"digest"}

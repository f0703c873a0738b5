"""The dispatcher: reads the command word, imports only what that command needs, reports errors."""

import os
import re
import shlex
import sys

from medvision.errors import MedvisionError, did_you_mean

USAGE = """medvision: the honest medical-imaging lab in one command   (research software, not a medical device)

  medvision train    [experiment=NAME] [group=choice] [key=value]   fit, calibrate, evaluate; -m sweeps
  medvision tune     experiment=NAME trials=50 [key=value]          search the experiment's space on val, with Optuna
  medvision prepare  source=folder input=DIR output=DIR columns.patient='(p\\d+)'
  medvision evaluate run=RUN [data.manifest=FILE.csv] [split=test]  a frozen model on its own or other rows
  medvision predict  run=RUN input=PATH output=FILE.csv             probabilities and decisions for new files
  medvision generate run=GAN_RUN per_class=500 seed=0               images of a trained generator, for training
  medvision compare  runs=[A,B]                                     paired tests on the same patients
  medvision report   run=RUN_OR_SWEEP                               one self-contained page
  medvision verify   run=RUN_OR_SWEEP                               are its files what they were, its scores what they say
  medvision completion bash                                         tab completion: eval "$(medvision completion bash)", or zsh

RUN is a run folder, `last`, or a unique beginning of its name; a sweep is runs/NAME, or a pattern with *.
evaluate and predict take runs=[A,B] too: an ensemble. Every argument is key=value.
  medvision COMMAND --help     what a command takes
  medvision train --cfg job    the composed configuration
"""  # noqa: E501
COMMANDS = ("train", "tune", "prepare", "evaluate", "predict", "generate", "compare", "report",
            "verify", "completion")  # fmt: skip


_NO_MEMORY = "out of memory|not enough memory|can't allocate memory"  # as torch says it
_USED_UP = (
    "the memory is used up; take smaller batches (data.batch_size), smaller images "
    "(data.reader.size), fewer files, or a machine with more"
)


def main(arguments: list[str] | None = None) -> None:
    """Run `medvision COMMAND key=value …` and exit: 0 done, 2 a mistake told in one sentence."""
    words = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("LOCAL_RANK", "0") != "0" and "MEDVISION_LAUNCH" in os.environ:
        # Lightning started this program again for a further device, with words of its own.
        words = shlex.split(os.environ["MEDVISION_COMMAND"])[1:]
    os.environ["MEDVISION_COMMAND"] = shlex.join(["medvision", *words])  # Hydra rewrites sys.argv
    try:
        sys.exit(_run(words))
    except MedvisionError as error:
        print(f"medvision: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        again = "; the same command goes on after its last finished epoch"
        print(f"medvision: stopped by you{again * (words[:1] == ['train'])}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from medvision.files import explain_refusal, find_refusal

        if isinstance(error, MemoryError) or re.search(_NO_MEMORY, str(error)):
            print(f"medvision: {_USED_UP}", file=sys.stderr)
            sys.exit(2)
        refusal = find_refusal(error)
        if refusal is None:
            raise
        print(f"medvision: {explain_refusal(refusal)}", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("medvision"))
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        raise MedvisionError(
            f"unknown command {command!r}{did_you_mean(command, COMMANDS)}; "
            f"use {', '.join(COMMANDS)}, or medvision --help"
        )
    asked = {"-h", "--help"} & {*rest}
    if asked and (command != "train" or {*rest} == asked):  # what is composed, only Hydra knows
        from medvision.commands.help import print_help

        print_help(command)
        return 0
    if command == "train":
        from medvision.commands.train import launch

        return launch(rest)
    if command == "tune":
        from medvision.commands.tune import launch as search

        return search(rest)
    if command == "completion":
        from medvision.commands.completion import launch as complete

        return complete(rest, USAGE)
    from medvision.commands.arguments import call

    call(command, rest)
    return 0


if __name__ == "__main__":
    main()

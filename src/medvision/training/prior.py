"""What a training starts from: weights, generators, a judge, and what they have seen."""

from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import medvision.files as files
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.units.unit import read_unit
from medvision.errors import MedvisionError, collect
from medvision.identity import count
from medvision.model import is_model_file, load_model, read_model_file, refuse_generator
from medvision.runs import Run, find_run, find_run_around
from medvision.seen import Seen, refuse_namesakes, stamp_namesakes


def find_weights(weights: str | None) -> str | None:
    """Find a weight file: as typed, under `MEDVISION_DATA`, or the model of a run."""
    if weights is None:
        return None
    if Path(weights).is_file():
        return str(Path(weights).resolve())
    with suppress(MedvisionError):
        found = files.find_input(weights)
        if found.is_file():  # a folder is a run
            return str(found)
    try:
        return str(find_run(weights).model)
    except MedvisionError as error:
        raise MedvisionError(f"model.weights={weights} is no file, and no run: {error}") from error


def check_pretraining(weights: str | None, data: ImageDataModule) -> Seen:
    """Refuse to start from a model that has met the patients or images it will be judged on.

    Returns:
        what that model has seen, which the new one inherits; of weights that no run of ours tells
        of, that nobody knows it.
    """
    if weights is None:
        return Seen()
    run, what = find_run_around(weights), f"model.weights={weights}"
    _note_stamp(what, run)
    short = f"model.weights={run.title if run else Path(weights).name}"
    seen = _read_history(Path(weights), run)
    if seen is None:
        return Seen(unknown=[f"{short}: what they have seen is not known"])
    way_out = "start from another model, or keep its split (data.split_seed, data.fold)"
    return seen.stamped(_compare(seen, data, what, short, way_out))


def _read_history(weights: Path, run: Run | None) -> Seen | None:
    """Return what the model of a file has seen; None where nobody knows.

    A checkpoint takes the history of the run it lies in, if it is one of those the run has left.
    """
    if is_model_file(weights):
        content = read_model_file(weights)
        refuse_generator(content, f"model.weights={weights}")
        return Seen.from_plain(content["seen"])
    seen = Seen.from_record(run.record) if run else None
    if run is None or seen is None:
        return None
    known = (run.record.get("checkpoints") or {}).values()
    if known and files.digest_file(weights) not in known:
        return None
    if seen.image_key is not None:
        return seen
    # Before images had a key, a record told what a run had met itself, not what it inherited.
    return Seen.from_plain(read_model_file(run.model)["seen"]) if run.model.exists() else None


def _compare(
    seen: Seen, data: ImageDataModule, what: str, short: str, way_out: str
) -> Iterator[str]:
    """Refuse what has seen val or test; yield what could not be told, or was allowed.

    On the same split the earlier val part may choose once more; nothing may meet test.

    Args:
        seen: by a model.
        data: of the training.
        what: the model, as the user named it.
        short: the same for tables, without its place.
        way_out: what to do if it has met them.
    """
    for part in ("val", "test"):
        met = seen.meet(data.ready.shown(part), train=part == "val")
        if met.patients or met.images:
            raise MedvisionError(
                f"{what} has seen {len(met.patients)} patients and {len(met.images)} images of "
                f"the {part} part, so a score there would prove nothing; {way_out}"
            )
        if met.namesakes and not data.options.different_patients:
            raise refuse_namesakes(
                f"{what} has seen {count(len(met.namesakes), 'patient id')} of the {part} part "
                "under another dataset name", way_out
            )  # fmt: skip
        yield from stamp_namesakes(met.namesakes, f"{part} seen by {short}")
    yield from (f"{short}: {sentence}" for sentence in met.unchecked)


def _note_stamp(word: str, run: Run | None) -> None:
    """Say of a run that it was made elsewhere, or does not say what its files were."""
    if run is not None and run.stamp:
        print(f"note: {word}: {run.stamp}")


def find_judge(name: str | None, data: ImageDataModule) -> tuple[Run | None, Seen]:
    """Find the classifier in whose eyes a generator is judged as well, and what it has seen.

    Raises:
        MedvisionError: it answers another question, reads images otherwise, or has learned from
            images that are to judge.
    """
    if name is None:
        return None, Seen()
    run = find_run(name)
    _note_stamp(f"judge.run={name}", run)
    model, samples = load_model(run.model), data.ready
    unit = read_unit(model.unit)
    classes = samples.target.plain()["classes"]
    met = [model.seen.meet(samples.shown(part), train=part == "val") for part in ("val", "test")]
    shared = [len(each.patients | each.images) for each in met]
    problems = {
        f"its classes are {model.classes}, not {classes}": model.classes != classes,
        f"it reads {unit.taken}": not unit.alone,
        f"it reads images as {model.contract}, which data.reader does not":
            model.contract != data.options.reader.contract(),
        f"it has met patients or images of val ({shared[0]}) or test ({shared[1]})": any(shared),
    }  # fmt: skip
    way_out = "train a classifier on this manifest, split and size, and name it"
    if found := [problem for problem, there in problems.items() if there]:
        raise collect(f"judge.run={name} cannot judge", found, way_out.capitalize())
    short = f"judge.run={run.title}"
    return run, model.seen.stamped(_compare(model.seen, data, f"judge.run={name}", short, way_out))


def find_inception(place: str) -> Path:
    """Find Inception's weights before an hour of training.

    Raises:
        MedvisionError: no such file, or no package to read it with.
    """
    path = files.find_input(place)
    if find_spec("torch_fidelity") is None:
        raise MedvisionError(
            "judge.inception needs torch-fidelity; add it with: pip install 'medvision[gan]'"
        )
    return path


def check_generators(data: ImageDataModule) -> list[Seen]:
    """Refuse generated images whose generator has met the patients or images of val or test.

    Returns:
        what each generator has seen, which a model that trains on its images inherits.
    """
    way_out = "train a generator on this split (data.split_seed, data.fold)"
    met = []
    for made in data.ready.generated:
        seen, what = Seen.from_plain(made.seen | {"key": made.key}), f"data.extra ({made.run})"
        told = _compare(seen, data, f"the generator of {what}", f"the generator of {what}", way_out)
        met.append(seen.stamped(told))
    return met

"""What a training starts from: weights, generators, a judge, and what they have seen."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import medvision.files as files
import medvision.seal as seal
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.units.unit import read_unit
from medvision.errors import MedvisionError, collect
from medvision.model import Seen, is_model_file, load_model, read_model_file, refuse_generator
from medvision.runs import Run, find_run, find_run_around


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
        what that model has seen, which the new one inherits; nothing for foreign weights.
    """
    if weights is None or not is_model_file(Path(weights)):
        return Seen()
    samples, key = data.ready, data.card.key if data.card else None
    _note_standing(f"model.weights={weights}", find_run_around(weights))
    content = read_model_file(Path(weights))
    refuse_generator(content, f"model.weights={weights}")
    seen = Seen(**content["seen"])
    for part in ("val", "test"):
        patients, images = samples.seen(part)
        # On the same split the earlier val part may choose once more; nothing may meet test.
        met, shared = seen.meet(patients, images, key, train=part == "val")
        if met or shared:
            raise MedvisionError(
                f"model.weights={weights} has seen {len(met)} patients and {len(shared)} images of "
                f"the {part} part, so a score there would prove nothing; start from another model, "
                "or keep its split (data.split_seed, data.fold)"
            )
    return seen


def _note_standing(word: str, run: Run | None) -> None:
    """Say of a run that it was made elsewhere, or does not say what its files were."""
    if run is not None and (text := seal.STAMPS.get(run.standing)):
        print(f"note: {word}: {text}")


def find_judge(name: str | None, data: ImageDataModule) -> Run | None:
    """Find the classifier in whose eyes a generator is judged as well.

    Raises:
        MedvisionError: it answers another question, reads images otherwise, or has learned from
            images that are to judge.
    """
    if name is None:
        return None
    run = find_run(name)
    _note_standing(f"judge.run={name}", run)
    model, samples = load_model(run.model), data.ready
    unit = read_unit(model.unit)
    key, classes = data.card.key if data.card else None, samples.target.plain()["classes"]
    met = [len(set().union(*model.seen.meet(*samples.seen(part), key, train=part == "val")))
           for part in ("val", "test")]  # fmt: skip
    problems = {
        f"its classes are {model.classes}, not {classes}": model.classes != classes,
        f"it reads {unit.taken}": not unit.alone,
        f"it reads images as {model.contract}, which data.reader does not":
            model.contract != data.options.reader.contract(),
        f"it has met patients or images of val ({met[0]}) or test ({met[1]})": any(met),
    }  # fmt: skip
    if found := [problem for problem, there in problems.items() if there]:
        way_out = "Train a classifier on this manifest, split and size, and name it"
        raise collect(f"judge.run={name} cannot judge", found, way_out)
    return run


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
    samples, key = data.ready, data.card.key if data.card else None
    met = []
    for made in samples.generated:
        seen = Seen(**made.seen, key=made.key)
        for part in ("val", "test"):
            # On the same split the generator's val part may choose once more, as in pretraining.
            patients, images = seen.meet(*samples.seen(part), key, train=part == "val")
            if patients or images:
                raise MedvisionError(
                    f"the generator of data.extra ({made.run}) has seen {len(patients)} patients "
                    f"and {len(images)} images of the {part} part, so a score there would prove "
                    "nothing; train a generator on this split (data.split_seed, data.fold)"
                )
        met.append(seen)
    return met

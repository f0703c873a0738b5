"""One `LightningDataModule`: index batches, one gather, augmentation in training only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

import medvision.files as files
from medvision.augment import device as augment_on_device
from medvision.augment import host as augment_on_host
from medvision.augment.draw import Augment, Draws
from medvision.augment.sequence import SequenceAugment
from medvision.data.audit.audit import Audit
from medvision.data.batches.assemble import assemble
from medvision.data.batches.device_store import DeviceStore, send
from medvision.data.batches.mixing import Pool, Ratio, mix
from medvision.data.batches.options import Backend, DataOptions, Residency
from medvision.data.batches.samples import Samples, as_image
from medvision.data.batches.sampling import (
    Indexes,
    Indices,
    OrderedBatches,
    TrainingBatches,
    count_drawn,
    count_repeats,
    count_served,
)
from medvision.data.manifest.card import Card
from medvision.data.manifest.columns import is_read
from medvision.data.sources.prepare import prepare_once
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import OnGap
from medvision.data.units.unit import Draw, Layout, join_channels, to_tensors
from medvision.errors import MedvisionError
from medvision.openings import digest_rows, record_opening
from medvision.runs import find_run_around
from medvision.target import Target, open_target, take

_IN_MEMORY = "in memory"  # what is recorded in place of the digest of weights that lie in no file


class ImageDataModule(LightningDataModule):
    """Batches of `image` float32 `[B,C,H,W]` in [0,1], `label` and `index` from a manifest.

    Of series: `image` `[B,S,C,H,W]`, 0 in the padding, `length` `[B]`, `step` `[B,S]` (mm, s or,
    where unknown, 1; the first is the series' median), `label` and `slice_label` `[B,S]`; what
    other units make of rows, see `data.units.unit`.

    A Trainer's loop has the loaders serve indices and calls the hooks of transfer. In any other
    loop, a plain one or Fabric's (`setup_dataloaders(…, use_distributed_sampler=False)`: of several
    processes each has its share already), a loader serves the same batches, finished, on the CPU.
    There each pass over a loader of the training part is the next epoch, from 0, in another order
    and changed anew; `loader.sampler.set_epoch` chooses it. What is loaded of the test part says so
    (`open_test`).

    All keywords but `target` are settings `data.…`: see `DataOptions`.

    Args:
        target: what the annotations mean; None: classes, unless a task says otherwise (`target`)
            before `setup`.
    """

    def __init__(
        self,
        *,
        manifest: str | None = None,
        source: Mapping[str, Any] | None = None,
        reader: Reader | None = None,
        augment: Augment | None = None,
        columns: Mapping[str, str | None] | None = None,
        classes: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        multilabel: bool | None = None,
        negative: str | None = None,
        annotation: Mapping[str, Any] | None = None,
        mode: Literal["auto", "given", "patient", "site"] = "auto",
        shares: Mapping[str, float] | None = None,
        val_share: float = 0.15,
        fold: int | None = None,
        folds: int = 5,
        split_seed: int = 0,
        carry: Sequence[str] = (),
        stratify: str | None = None,
        on_leak: Literal["error", "drop"] = "error",
        on_unreadable: Literal["stop", "exclude"] = "stop",
        batch_size: int = 32,
        balance: bool = False,
        epoch_size: int | None = None,
        min_steps: int = 1,
        extra: Sequence[str] = (),
        extra_ratio: Ratio | None = None,
        different_patients: bool = False,
        unit: str = "image",
        channels: Sequence[str] | None = None,
        neighbours: int = 0,
        difference: bool = False,
        max_slices: int | None = None,
        on_gap: OnGap = "error",
        sequence: SequenceAugment | None = None,
        residency: Residency = "auto",
        backend: Backend = "auto",
        workers: int | None = None,
        seed: int = 0,
        target: type[Target] | None = None,
    ) -> None:
        super().__init__()
        self.options = DataOptions(
            manifest=manifest, source=source, reader=reader or Reader(size=None),
            augment=augment or Augment(), columns=columns, classes=classes, rename=rename,
            multilabel=multilabel, negative=negative, annotation=annotation, mode=mode,
            shares=shares, val_share=val_share, fold=fold, folds=folds, split_seed=split_seed,
            carry=list(carry), stratify=stratify, on_leak=on_leak, on_unreadable=on_unreadable,
            batch_size=batch_size, balance=balance, epoch_size=epoch_size,
            min_steps=min_steps, extra=list(extra), extra_ratio=extra_ratio,
            different_patients=different_patients,
            unit=unit, channels=channels, neighbours=neighbours, difference=difference,
            max_slices=max_slices, on_gap=on_gap, sequence=sequence or SequenceAugment(),
            residency=residency, backend=backend, workers=workers, seed=seed,
        )  # fmt: skip
        self.target = target
        self.samples: Samples | None = None
        self.audit: Audit | None = None
        self.card: Card | None = None
        self._residents: dict[torch.device, DeviceStore | None] = {}
        self._features: Tensor | None = None
        self._epoch = 0

    def prepare_data(self) -> None:
        """Turn the source into a manifest and a store, once; Lightning calls it on one process."""
        options = self.options
        if options.manifest is None and options.source is None:
            raise MedvisionError(
                "there is no data to train on; give data.manifest=FILE.csv or data.source.input=DIR"
            )
        if options.manifest is None:
            source = dict(options.source or {})
            if options.carry:
                source["carry"] = list(options.carry)
            read = () if self.target is None else self.target.columns
            also = [] if options.stratify is None else [options.stratify]
            made = prepare_once(
                source, options.reader, options.workers,
                [name for name in (*read, *also) if not is_read(name)],
            )  # fmt: skip
            self.options = replace(options, manifest=str(made))

    def identity(self) -> list[str]:
        """Return digests of all manifests and of all pixels: what a run's name depends on."""
        samples = self.ready
        drawn = [each.store.digests for held in samples.maps.values() for each in held
                 if each is not None and each.store is not None]  # fmt: skip
        return [
            *samples.manifests, files.digest(*samples.digest), *(files.digest(*d) for d in drawn),
        ]  # fmt: skip

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split, decode; a second call changes nothing."""
        if self.samples is None:
            self.prepare_data()
            self.target = self.target or _find_classes()
            self.samples, self.audit, self.card = assemble(self.options, self.target)

    def teardown(self, stage: str) -> None:
        """Leave the Trainer, whose loop has ended: what comes next may be a plain one."""
        self.trainer = None

    def on_exception(self, exception: BaseException) -> None:
        self.trainer = None

    @property
    def ready(self) -> Samples:
        """The samples, set up if need be."""
        self.setup()
        assert self.samples is not None
        return self.samples

    def class_weights(self) -> Tensor | None:
        """Return weights of the classes in the training part, float32 `[K]`; None: no classes."""
        weights = self.ready.target.weights(take(self.ready.targets, self.train_rows()))
        return None if weights is None else torch.from_numpy(weights)

    def train_rows(self) -> np.ndarray:
        """Return the real rows that can be learned from."""
        return self.ready.known(self.ready.rows("train"))

    def train_dataloader(self) -> DataLoader[Indices]:
        rows, options = self.train_rows(), self.options
        weights = self._sampling_weights(rows) if options.balance else None
        rank, world = self._rank()
        return self._loader(
            TrainingBatches(
                rows, options.batch_size, options.seed, weights=weights,
                lengths=self.ready.unit.lengths(rows), draws=options.epoch_size,
                least=options.min_steps, pools=self._pools(rows, world), rank=rank, world=world,
            )
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[Indices]:
        return self._in_order(self.ready.known(self.ready.rows("val")))

    def test_dataloader(self) -> DataLoader[Indices]:
        """Serve what is known of the test part, which is opened by that."""
        self.open_test()
        return self._in_order(self.ready.known(self.ready.rows("test")))

    def predict_dataloader(self) -> DataLoader[Indices]:
        """Serve the test part, what is not known of it too, in the order of `rows("test")`."""
        self.open_test()
        return self._in_order(self.ready.rows("test"))

    def open_test(self) -> None:
        """Record that the test part is looked at, in the run folder the Trainer works in, if any.

        Where there is none that is said instead.
        """
        trainer = self.trainer
        checkpoint = None if trainer is None else trainer.ckpt_path
        places = [] if trainer is None else [checkpoint, trainer.log_dir, trainer.default_root_dir]
        run = next((run for place in places if place and (run := find_run_around(place))), None)
        if self._rank()[0] > 0:
            return
        if run is not None:
            model = files.digest_file(checkpoint) if checkpoint else _IN_MEMORY
            rows = digest_rows(self.ready.shown("test").images)
            record_opening([run], [model], rows, run.settings, whole=True)
        else:
            count = len(self.ready.rows("test"))
            print(f"note: the test part is opened ({count} samples); no run folder records it")

    def _in_order(self, rows: np.ndarray) -> DataLoader[Indices]:
        rank, world = self._rank()
        size = 2 * self.options.batch_size
        return self._loader(OrderedBatches(rows, size, rank=rank, world=world))

    def _loader(self, sampler: TrainingBatches | OrderedBatches) -> DataLoader[Indices]:
        # A batch is a list of row numbers, so there is nothing for worker processes to do.
        return DataLoader(Indexes(self._serve), sampler=sampler, batch_size=None, num_workers=0)

    def _serve(self, batch: Indices) -> dict[str, Tensor]:
        """Leave indices to a Trainer's loop, which calls the hooks; finish them for any other."""
        if self.trainer is not None:
            return batch
        self._epoch = int(batch.get("epoch", 0))
        return self.on_after_batch_transfer(self.on_before_batch_transfer(batch, 0), 0)

    def _sampling_weights(self, rows: np.ndarray) -> np.ndarray:
        weights = self.ready.target.row_weights(take(self.ready.targets, rows))
        if weights is None:
            raise MedvisionError(
                "data.balance=true draws classes equally often, and there are none; leave it out"
            )
        return weights

    def _pools(self, rows: np.ndarray, world: int) -> list[Pool]:
        """Share an epoch out between real and generated rows; without a ratio there is no pool."""
        ratio, samples = self.options.extra_ratio, self.ready
        if not ratio:
            return []
        size = self.options.batch_size
        drawn = count_drawn(len(rows), size, self.options.min_steps, world)
        total = count_served(drawn, size, world)
        groups = samples.target.groups(samples.targets)
        return mix(ratio, rows, samples.generated_rows(), total, groups)

    def _rank(self) -> tuple[int, int]:
        """Return the number of this process and how many there are."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def keep_features(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Encode every image once; batches then carry `features` `[N,F]` instead of `image`.

        N counts the images of all samples of a batch, one sample after the other.

        Args:
            encode: `[V,C,H,W]` in [0,1] → `[V,F]`, where they are to stay.
        """
        self._features = torch.cat([encode(image) for image in self.ready.each_image()])

    def serve_unchanged(self, indices: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Serve batches of samples, wherever their numbers lie, as those of val are served."""
        ends = np.cumsum([len(index) for index in indices])[:-1]
        numbers = np.split(torch.cat([*indices]).cpu().numpy(), ends)  # a device is waited for once
        given = ({"index": torch.from_numpy(some)} for some in numbers)
        batches = (self.on_before_batch_transfer(some, 0) for some in given)
        there = (self.transfer_batch_to_device(some, self._device(), 0) for some in batches)
        return [self.on_after_batch_transfer(some, 0) for some in there]

    def on_before_batch_transfer(self, batch: Indices, dataloader_idx: int) -> dict[str, Tensor]:
        """Gather on the host, and augment there in training, unless pixels live on the device."""
        index = batch["index"].numpy()
        training = self.trainer is None or self.trainer.training
        draw = batch["draw"].numpy() if training and "draw" in batch else None
        samples = self.ready
        drawn = None if draw is None else Draw(self.options.seed, self.epoch, draw)
        layout = samples.unit.lay_out(index, drawn)
        gathered = samples.facts(index, layout)
        if self._features is not None:
            return gathered | {"numbers": torch.from_numpy(layout.number)}
        gathered |= to_tensors(layout.slots)
        draws = None if draw is None else draw[layout.sample]
        on_host = draws is not None and self._backend() == "host"
        change = None
        if draws is not None and (on_host or samples.target.boxes):
            change = self._draws(draws, samples.stores[0].array.shape[1:3])
            gathered |= self._move_boxes(gathered, change, layout)
        if draws is not None and not on_host:
            gathered["draw"] = torch.from_numpy(draws)
        resident = self._resident()
        if on_host or resident is None:
            pixels = samples.pixels(layout.rows)
            if on_host and change is not None:
                pixels = torch.from_numpy(augment_on_host.augment(pixels.numpy(), change))
                for name in samples.maps:
                    moved = augment_on_host.move_labels(gathered[name].numpy(), change)
                    gathered[name] = torch.from_numpy(moved)
            gathered["pixels"] = pixels
        else:
            gathered["places"] = resident.places(samples.where[layout.rows])
        return gathered

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Send everything but what the host reads again: it would wait for all of its work."""
        stays = {"draw", *self.ready.unit.on_host}
        return {k: v if k in stays else send(v, device) for k, v in batch.items()}

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Gather on the device if pixels live there, make floats, augment there in training."""
        if self._features is not None and "numbers" in batch:
            return batch | {"features": self._features[batch.pop("numbers")]}
        pixels, draw = (batch.pop(key, None) for key in ("pixels", "draw"))
        if pixels is None:
            resident, places = self._resident(), batch.pop("places")
            assert resident is not None
            pixels = join_channels(resident.gather(places.flatten()), places.shape[1])
        image = as_image(pixels)
        if draw is not None:
            draws = self._draws(draw.numpy(), image.shape[-2:])
            image = augment_on_device.augment(image, draws)
            for name in self.ready.maps:
                batch[name] = augment_on_device.move_labels(batch[name], draws)
        return self.ready.finish(image, batch)

    def _move_boxes(
        self, batch: dict[str, Tensor], draws: Draws, layout: Layout
    ) -> dict[str, Tensor]:
        """Return the boxes of a batch moved as its images will be, those that stay inside."""
        moved: dict[str, Tensor] = {}
        unit = self.ready.unit
        for name in [f"{unit.of_rows}{name}" for name in self.ready.target.boxes]:
            if name not in batch:
                continue
            row = batch[f"{name}_row"].numpy()
            image = unit.find_images(row, layout)
            boxes, kept = augment_on_host.move_boxes(batch[name].numpy(), image, draws)
            moved |= {name: torch.from_numpy(boxes[kept]),
                      f"{name}_row": torch.from_numpy(row[kept])}  # fmt: skip
        return moved

    def _draws(self, draw: np.ndarray, size: Sequence[int]) -> Draws:
        """Draw the change of each image; images of one sample have equal `draw`."""
        options = self.options
        draws = options.augment.draw(options.seed, self.epoch, draw, (size[0], size[1]))
        return draws if self.ready.unit.alone else draws.with_own_noise(count_repeats(draw))

    @property
    def epoch(self) -> int:
        """The epoch of the batch that is served now."""
        return self._epoch if self.trainer is None else self.trainer.current_epoch

    def _device(self) -> torch.device:
        if self.trainer is None:
            return torch.device("cpu")
        return self.trainer.strategy.root_device

    def _backend(self) -> str:
        if self.options.backend != "auto":
            return self.options.backend
        return "host" if self._device().type == "cpu" else "device"

    def _resident(self) -> DeviceStore | None:
        """Return all pixels on the device, copied there once; None where they stay on the host.

        Settled once: what is free on a device changes from batch to batch.

        Raises:
            MedvisionError: `residency` asks for more than the device has.
        """
        device = self._device()
        if device not in self._residents:
            stays = self._stays_on(device)
            self._residents[device] = DeviceStore(self.ready.stores, device) if stays else None
        return self._residents[device]

    def _stays_on(self, device: torch.device) -> bool:
        """Settle `residency`: `auto` leaves half of what is free on a GPU for everything else."""
        residency = self.options.residency
        if device.type != "cuda" or residency not in ("auto", "device"):
            return residency == "device"
        needed = sum(store.array.nbytes for store in self.ready.stores)
        free = torch.cuda.mem_get_info(device)[0]
        if residency == "device" and needed > free:
            raise MedvisionError(
                f"data.residency=device needs {needed / 2**30:.1f} GB on {device}, where "
                f"{free / 2**30:.1f} are free; say data.residency=host"
            )
        return residency == "device" or needed <= free // 2


def _find_classes() -> type[Target]:
    """Return the target of classification: what a plain loop that names no task is about."""
    found: type[Target] = open_target("classification")
    return found

"""One `LightningDataModule`: index batches, one gather, augmentation in training only."""

from collections.abc import Callable, Mapping, Sequence
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
from medvision.data.batches.mixing import RULE, Pool, Ratio, is_ratio, mix
from medvision.data.batches.samples import Samples, as_image
from medvision.data.batches.sampling import (
    Indexes,
    Indices,
    OrderedBatches,
    TrainingBatches,
    count_repeats,
    count_served,
)
from medvision.data.manifest.card import Card
from medvision.data.sources.prepare import prepare_once
from medvision.data.store.reader import Reader
from medvision.data.units.series import SliceBatch, join_channels
from medvision.data.units.series_form import OnGap, SeriesForm
from medvision.errors import MedvisionError

Residency = Literal["auto", "disk", "host", "device"]
READ_ON_HOST = ("draw", "length")
"""Of a batch, what is no number for the device: asking for it back would wait for all its work."""


class ImageDataModule(LightningDataModule):
    """Batches of `image` float32 `[B,C,H,W]` in [0,1], `label` and `index` from a manifest.

    Of series: `image` `[B,S,C,H,W]`, 0 in the padding, `length` `[B]`, `step` `[B,S]` (mm, s or,
    where unknown, 1; the first is the series' median), `label` and `slice_label` `[B,S]`. All of a
    batch goes to the device but `length`, which packed sequences want on the host.

    Args:
        manifest: a manifest's CSV; wins over `source`.
        source: what `prepare` is called with once (`name`, `input`, `columns`, …).
        reader: how a file becomes an array.
        augment: random change of training batches.
        columns: ours → theirs, for a `manifest` with foreign column names.
        classes: class names in order; else the card's, else the sorted labels.
        rename: their label → ours.
        multilabel, negative: several labels an image joined by `|`; the name for "none of them".
        mode: `given`, `patient`, `site`, or `auto` (given if there is one, else by patient).
        shares: part → share of the patients, for computed splits.
        val_share: share of the rest that is held out where a val part must be cut.
        fold: this part of `folds` is the test part; a given split is then ignored.
        split_seed: alone decides splits and folds.
        stratify: column in which the parts of a computed split are alike; None: the label. Runs of
            other labels on the same patients then split them alike.
        on_leak: what to do with a given split that leaks.
        on_unreadable: stop, or leave unreadable files out, counted.
        balance: draw the training rows so that classes come up equally often.
        epoch_size: images shown an epoch, of which a GAN wants thousands; None: as many as train.
        extra: manifests whose rows join the training part: real ones, and what `medvision generate`
            made, which counts in nothing but the batches.
        extra_ratio: generated ÷ real images drawn in an epoch, which has the steps of the real data
            alone; `balance`: classes equally often, each filled up with generated images to the
            commonest one; `only`: nothing but generated images; None: there are none.
        unit: what a sample is: a row, or all rows of a series.
        channels, neighbours, difference, max_slices, on_gap: as in `SeriesForm`, for series.
        sequence: random change of the order of training series.
        residency: where decoded pixels stay; `auto` takes the device, else memory, as they fit.
        backend: who augments; `auto` is OpenCV for a CPU, one batched resampling for a device.
        seed: decides order and augmentation, never the split.
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
        mode: Literal["auto", "given", "patient", "site"] = "auto",
        shares: Mapping[str, float] | None = None,
        val_share: float = 0.15,
        fold: int | None = None,
        folds: int = 5,
        split_seed: int = 0,
        stratify: str | None = None,
        on_leak: Literal["error", "drop"] = "error",
        on_unreadable: Literal["stop", "exclude"] = "stop",
        batch_size: int = 32,
        balance: bool = False,
        epoch_size: int | None = None,
        extra: Sequence[str] = (),
        extra_ratio: Ratio | None = None,
        unit: Literal["image", "series"] = "image",
        channels: Sequence[str] | None = None,
        neighbours: int = 0,
        difference: bool = False,
        max_slices: int | None = None,
        on_gap: OnGap = "error",
        sequence: SequenceAugment | None = None,
        residency: Residency = "auto",
        backend: Literal["auto", "host", "device"] = "auto",
        workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.manifest, self.source, self.columns = manifest, source, columns
        self.reader, self.augment = reader or Reader(size=None), augment or Augment()
        self.classes, self.rename = classes, rename
        self.multilabel, self.negative = multilabel, negative
        self.mode, self.shares, self.val_share = mode, shares, val_share
        self.fold, self.folds, self.split_seed = fold, folds, split_seed
        self.stratify = stratify
        self.on_leak, self.on_unreadable = on_leak, on_unreadable
        self.batch_size, self.balance, self.extra = batch_size, balance, list(extra)
        self.epoch_size = epoch_size
        if extra_ratio is not None and not is_ratio(extra_ratio):
            raise MedvisionError(f"data.extra_ratio={extra_ratio} cannot be; choose {RULE}")
        if extra_ratio is not None and balance:
            raise MedvisionError(
                f"data.balance=true and data.extra_ratio={extra_ratio} both say what an epoch "
                "draws; keep one of them (data.extra_ratio=balance fills rare classes up)"
            )
        self.extra_ratio = extra_ratio
        if unit not in ("image", "series"):
            raise MedvisionError(f"data.unit={unit} cannot be; choose image or series")
        form = SeriesForm(channels, neighbours, difference, max_slices, on_gap)
        self.unit, self.form = unit, form if unit == "series" else None
        self.sequence = sequence or SequenceAugment()
        self.residency, self.backend = residency, backend
        self.workers, self.seed = workers, seed
        self.samples: Samples | None = None
        self.audit: Audit | None = None
        self.card: Card | None = None
        self._residents: dict[torch.device, DeviceStore | None] = {}
        self._features: Tensor | None = None

    def prepare_data(self) -> None:
        """Turn the source into a manifest and a store, once; Lightning calls it on one process."""
        if self.manifest is None and self.source is None:
            raise MedvisionError(
                "there is no data to train on; give data.manifest=FILE.csv or data.source.input=DIR"
            )
        if self.manifest is None:
            self.manifest = str(prepare_once(self.source or {}, self.reader, self.workers))

    def identity(self) -> list[str]:
        """Return digests of all manifests and of all pixels: what a run's name depends on."""
        return [*self.ready.manifests, files.digest(*self.ready.digest)]

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split, decode; a second call changes nothing."""
        if self.samples is None:
            self.prepare_data()
            self.samples, self.audit, self.card = assemble(self)

    @property
    def ready(self) -> Samples:
        """The samples, set up if need be."""
        self.setup()
        assert self.samples is not None
        return self.samples

    def class_counts(self) -> np.ndarray:
        """Count the real training rows of each class, `[K]`."""
        label = self.ready.label[self.ready.rows("train")]
        if label.ndim == 2:
            return np.asarray(np.nansum(label, axis=0))
        return np.bincount(label[label >= 0], minlength=len(self.ready.classes.names))

    def class_weights(self) -> Tensor:
        """Return weights of the classes in the training part, float32 `[K]`.

        Inverse frequency, mean 1, a class without rows weighing 1; for multi-label, negatives over
        positives, which is what weights the positive side of each class.
        """
        counts = self.class_counts()
        if self.ready.label.ndim == 2:
            absent = len(self.train_rows()) - counts
            odds = np.where(counts > 0, absent / np.maximum(counts, 1), 1.0)
            return torch.tensor(np.maximum(odds, 1e-3), dtype=torch.float32)
        weights = 1 / np.maximum(counts, 1)
        weights = np.where(counts > 0, weights / weights[counts > 0].mean(), 1.0)
        return torch.tensor(weights, dtype=torch.float32)

    def train_rows(self) -> np.ndarray:
        """Return the real rows that can be learned from."""
        return self._labelled("train")

    def train_dataloader(self) -> DataLoader[Indices]:
        rows = self.train_rows()
        weights = self._sampling_weights(rows) if self.balance else None
        slices, lengths = self.ready.slices, None
        if slices is not None:
            lengths = self.sequence.shorten(slices.lengths(rows))
        rank, world = self._rank()
        return self._loader(
            TrainingBatches(
                rows, self.batch_size, self.seed, weights=weights, lengths=lengths,
                draws=self.epoch_size if slices is None else None,
                pools=self._pools(rows, world), rank=rank, world=world,
            )
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[Indices]:
        rows = self._labelled("val")
        rank, world = self._rank()
        return self._loader(OrderedBatches(rows, 2 * self.batch_size, rank=rank, world=world))

    def _loader(self, sampler: TrainingBatches | OrderedBatches) -> DataLoader[Indices]:
        # A batch is a list of row numbers, so there is nothing for worker processes to do.
        return DataLoader(Indexes(), sampler=sampler, batch_size=None, num_workers=0)

    def _labelled(self, part: str) -> np.ndarray:
        rows = self.ready.rows(part)
        label = self.ready.label[rows]
        known = ~np.isnan(label).all(axis=1) if label.ndim == 2 else label >= 0
        return np.asarray(rows[known])

    def _sampling_weights(self, rows: np.ndarray) -> np.ndarray:
        weight = self.class_weights().double().numpy()
        label = self.ready.label[rows]
        if label.ndim == 2:  # an image counts as its rarest finding
            return np.asarray(np.where(label > 0, weight, weight.min()).max(axis=1))
        return np.asarray(weight[label])

    def _pools(self, rows: np.ndarray, world: int) -> list[Pool]:
        """Share an epoch out between real and generated rows; without a ratio there is no pool."""
        if not self.extra_ratio:
            return []
        total = count_served(len(rows), self.batch_size, world)
        made, classes = self.ready.generated_rows(), self.ready.classes
        return mix(self.extra_ratio, rows, made, total, self.ready.label, classes.names)

    def _rank(self) -> tuple[int, int]:
        """Return the number of this process and how many there are."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def keep_features(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Encode every slice once; batches then carry `features` `[N,F]` instead of `image`.

        N counts the slices of all series of a batch, one series after the other.

        Args:
            encode: `[V,C,H,W]` in [0,1] → `[V,F]`, where they are to stay.
        """
        self._features = torch.cat([encode(image) for image in self.ready.each_slice()])

    def on_before_batch_transfer(self, batch: Indices, dataloader_idx: int) -> dict[str, Tensor]:
        """Gather on the host, and augment there in training, unless pixels live on the device."""
        index = batch["index"].numpy()
        training = self.trainer is not None and self.trainer.training
        draw = batch["draw"].numpy() if training else None
        strips = self._lay_out(index, draw)
        gathered = self.ready.facts(index, strips)
        if self._features is not None and strips is not None:
            return gathered | {"slices": torch.from_numpy(strips.slices)}
        if draw is not None and strips is not None:
            draw = np.repeat(draw, strips.length)
        on_host = draw is not None and self._backend() == "host"
        if draw is not None and not on_host:
            gathered["draw"] = torch.from_numpy(draw)
        resident = self._resident()
        if on_host or resident is None:
            pixels = self.ready.pixels(index, strips)
            if on_host and draw is not None:
                draws = self._draws(draw, pixels.shape[1:3])
                pixels = torch.from_numpy(augment_on_host.augment(pixels.numpy(), draws))
            gathered["pixels"] = pixels
        else:
            rows = index[:, None] if strips is None else strips.rows
            gathered["places"] = resident.places(self.ready.where[rows])
        return gathered

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Send everything but what the host reads again."""
        return {k: v if k in READ_ON_HOST else send(v, device) for k, v in batch.items()}

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Gather on the device if pixels live there, make floats, augment there in training."""
        pixels, draw, slot = (batch.pop(key, None) for key in ("pixels", "draw", "slot"))
        if self._features is not None and "slices" in batch:
            return batch | {"features": self._features[batch.pop("slices")]}
        if pixels is None:
            resident, places = self._resident(), batch.pop("places")
            assert resident is not None
            pixels = join_channels(resident.gather(places.flatten()), places.shape[1])
        image = as_image(pixels)
        if draw is not None:
            draws = self._draws(draw.numpy(), image.shape[-2:])
            image = augment_on_device.augment(image, draws)
        return batch | {"image": self.ready.finish(image, slot, batch)}

    def _lay_out(self, index: np.ndarray, draw: np.ndarray | None) -> SliceBatch | None:
        """Line up the slices of series, drawn anew in training; None for images."""
        slices = self.ready.slices
        if slices is None:
            return None
        kept = None
        if draw is not None and self.sequence.changes:
            kept = self.sequence.draw(self.seed, self._epoch(), draw, slices.lengths(index))
        return slices.lay_out(index, kept)

    def _draws(self, draw: np.ndarray, size: Sequence[int]) -> Draws:
        """Draw the change of each image; slices of a series have equal `draw`."""
        draws = self.augment.draw(self.seed, self._epoch(), draw, (size[0], size[1]))
        return draws if self.form is None else draws.with_own_noise(count_repeats(draw))

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def _device(self) -> torch.device:
        if self.trainer is None:
            return torch.device("cpu")
        return self.trainer.strategy.root_device

    def _backend(self) -> str:
        if self.backend != "auto":
            return self.backend
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
        if device.type != "cuda" or self.residency not in ("auto", "device"):
            return self.residency == "device"
        needed = sum(store.array.nbytes for store in self.ready.stores)
        free = torch.cuda.mem_get_info(device)[0]
        if self.residency == "device" and needed > free:
            raise MedvisionError(
                f"data.residency=device needs {needed / 2**30:.1f} GB on {device}, where "
                f"{free / 2**30:.1f} are free; say data.residency=host"
            )
        return self.residency == "device" or needed <= free // 2

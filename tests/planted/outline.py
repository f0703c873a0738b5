"""A task of a user's that is no classification: lesions outlined in a file, and boxed in a cell."""

from typing import ClassVar

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from medvision.evaluation.evaluator import Evaluator, Metric, Scored
from medvision.evaluation.predictions import Schema
from medvision.target import Ragged, Target
from medvision.tasks.task import Task

TILE = 10  # columns that the net sees at once
CUTS = (0.05, 0.3, 0.5, 0.7)


class Findings(Target):
    """Where lesions are: outlined in `mask` and boxed in `boxes`."""

    columns: ClassVar = ("mask", "boxes", "scribble_")
    files: ClassVar = ("mask", "scribble_")
    boxes: ClassVar = ("boxes",)

    @classmethod
    def resolve(cls, table, card, *, least=0):
        found = cls()
        found.least = least
        return found

    def encode(self, table):
        rows = [self._read(cell) for cell in table["boxes"]]
        start = np.cumsum([0, *map(len, rows)])
        named = table["mask"] != ""
        return {"boxes": Ragged(np.concatenate(rows), start),
                "drawn": named.to_numpy(np.int64)}  # fmt: skip

    def encode_rows(self, table, keys):
        return self.encode(table)

    def known(self, encoded):
        return encoded["drawn"] >= 0

    @classmethod
    def of_unit(cls, table, keys):
        return pd.DataFrame(index=table.index)

    def strata(self, table):
        return table["mask"].map(lambda name: "drawn" if name else "")

    def count(self, encoded, patients):
        return {"unlabelled": int((encoded["drawn"] == 0).sum()),
                "boxes": len(encoded["boxes"].values)}  # fmt: skip

    def plain(self):
        return {"least": self.least}

    @classmethod
    def from_plain(cls, content):
        return cls.resolve(None, {}, **content)

    def _read(self, cell):
        told = [[float(n) for n in one.split()] for one in cell.split("|") if one]
        return np.array(told).reshape(-1, 5)


class Pixels(nn.Module):
    """A line of convolutions; one answer a pixel."""

    def __init__(self, num_classes, in_channels=1, width=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, num_classes, 1)
        )

    def forward(self, image):
        return {"map": self.layers(image)[:, 0]}


def dice(tp, fp, fn):
    """Return the overlap of each case; to find nothing where nothing is counts as 1."""
    return (2 * tp + 1e-6) / (2 * tp + fp + fn + 1e-6)


class OutlineEvaluator(Evaluator):
    """Overlap of each case, and the boxes that were found."""

    primary = "dice"
    headline = compared = pooled = ("dice",)
    tables: ClassVar = {
        "": Schema(numbers=("tp", "fp", "fn", "area"), needed=("tp", "fp", "fn"), example="tp"),
        "boxes": Schema(numbers=("x", "y")),
    }

    def __init__(self, target, decision):
        super().__init__(target, decision)
        self.metrics = {
            "dice": Metric("dice", "Dice", "high", self._dice, lambda scored: None),
            "boxes": Metric("boxes", "Boxes a case", "low", self._count, lambda scored: None),
        }

    def _dice(self, scored, weights):
        each = dice(*(scored.arrays[name] for name in ("tp", "fp", "fn")))
        return (weights * each).sum(1) / weights.sum(1)

    def _count(self, scored, weights):
        each = np.bincount(scored.nested["boxes"]["row"], minlength=len(scored))
        return (weights * each).sum(1) / weights.sum(1)

    def tabulate(self, outputs, facts):
        told = {name: outputs[name] for name in ("tp", "fp", "fn") if name in outputs}
        found = outputs["found"]
        boxes = pd.DataFrame(found.values, columns=["x0", "y0", "x1", "y1"])
        boxes.insert(0, "row", found.row)
        return {"": facts[""].assign(**told, area=outputs["area"]), "boxes": boxes}

    def fit(self, outputs, truth, rule):
        raise NotImplementedError

    def read(self, tables):
        table = tables[""]
        arrays = {name: table[name].to_numpy() for name in ("tp", "fp", "fn")}
        patients = list(zip(table["dataset"], table["patient"], strict=True))
        return Scored(table, {"boxes": tables["boxes"]}, arrays, patients)

    def write(self, outputs, facts, folder):
        folder.mkdir(exist_ok=True)
        for path, outline in zip(facts[""]["path"], outputs["outline"], strict=True):
            place = folder / f"{path.replace('/', '_').removesuffix('.png')}_mask.png"
            cv2.imwrite(str(place), outline * np.uint8(255))
            yield place


class Outline(Task):
    """Outlines what is bright."""

    target = Findings
    evaluator = OutlineEvaluator
    monitor = "val/dice"
    averages_views = False

    @classmethod
    def watched(cls):
        return "loss", "dice"

    @classmethod
    def net_facts(cls, target, node):
        return {"num_classes": 1}

    def loss(self, answer, batch):
        drawn = batch["mask"] >= 0
        return binary_cross_entropy_with_logits(answer["map"][drawn], batch["mask"][drawn].float())

    def keep(self, answer, batch):
        return count(answer["map"].sigmoid() >= 0.5, batch["mask"])

    def score(self, kept):
        return {"dice": float(dice(**kept).mean())}

    @staticmethod
    def infer(net, batch, decision):
        tiles = [net(tile)["map"] for tile in batch["image"].split(TILE, dim=3)]
        outline = torch.cat(tiles, dim=2).sigmoid() >= decision.get("cut", 0.5)
        boxes = [bounds(each) for each in outline.cpu()]
        row = [number for number, box in enumerate(boxes) if box]
        found = torch.tensor([box for box in boxes if box], dtype=torch.float32).reshape(-1, 4)
        answer = {"outline": outline, "area": outline.sum((1, 2)), "found": found,
                  "found_row": torch.tensor(row, dtype=torch.int64)}  # fmt: skip
        return answer | (count(outline, batch["mask"]) if "mask" in batch else {})

    def finish(self, context):
        rows, mean = context.rows.of("val"), {}
        for cut in CUTS:  # a pass over the part for each of them
            answers = [self.infer(self.net.eval(), batch, {"cut": cut})
                       for batch in context.rows.batches(rows)]  # fmt: skip
            counts = {k: torch.cat([answer[k] for answer in answers]) for k in ("tp", "fp", "fn")}
            mean[cut] = float(dice(**counts).mean())
        return {"cut": max(mean, key=mean.get), "passes": len(mean)}


def count(outline, mask):
    """Count pixels of each case, where it was drawn at all."""
    drawn, true = mask >= 0, mask == 1
    return {
        "tp": (outline & true).sum((1, 2)).float(),
        "fp": (outline & drawn & ~true).sum((1, 2)).float(),
        "fn": (~outline & true).sum((1, 2)).float(),
    }


def bounds(outline):
    """Return the box of what is inside, () where nothing is."""
    y, x = np.nonzero(outline.numpy())
    return () if len(y) == 0 else (x.min(), y.min(), x.max() + 1, y.max() + 1)

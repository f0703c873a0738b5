"""SliceRNN: a series read slice after slice, as a radiologist does."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from medvision.errors import MedvisionError
from medvision.nets.aggregation import Aggregation, noisy_or
from medvision.nets.build import build_net
from medvision.nets.encoder import encoder as without_head

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
_AGGREGATIONS = ("last", "mean", "max", "attention", "noisy_or")
_INITS = ("orthogonal", "default")
_SMALLEST_STEP = 1e-3  # mm or s; the logarithm of a step of 0 must not be minus infinity


class SliceRNN(nn.Module):
    """An image net for each slice, recurrence across them, a head for slices and one for the study.

    Image [B,S,C,H,W] → features [N,F] of the N = sum(length) valid slices → inputs
    [B,S,3F+1] (with differences and step) → states [B,S,D], D = hidden x directions (without a
    cell the inputs themselves) → study logits [B,K] and slice logits [B,S,K]. Padding is never
    encoded, packed sequences keep it out of the recurrence: it changes no output. Everything after
    the encoder runs in the precision of the weights, under autocast too.

    Args:
        num_classes: K.
        in_channels: C.
        encoder: partial of an image net of ours, torchvision, timm or the user; built by
            `build_net`'s rules, then its head is taken off. Its own dropout stays.
        cell: `gru`, `lstm`, `rnn` (tanh) or None: no recurrence, the pooling baselines.
        hidden: states a direction. `hidden`, `layers`, `bidirectional` and `init` ask for a cell.
        aggregation: `last`, `mean`, `max`, `attention` (see `Aggregation`) or `noisy_or`: the study
            logits follow from the slice logits, without a head of their own.
        differences: features are joined by their differences to the previous and the next slice
            (0 at the ends of a series). They undo the order invariance of pooling without a cell.
        step_input: the logarithm of the step, as one more feature.
        dropout: probability, 0 to 1, before the cell, between its layers and before the heads.
        slice_head: also answer for each slice.
        init: `orthogonal` recurrent weights, one matrix a gate, or torch's `default` (uniform). All
            other weights of the cell are torch's in both.
        encode_batch: valid slices encoded at once; None: all. Batch norm in training sees one such
            chunk at a time.
        freeze_encoder: the encoder neither learns nor moves its statistics; its features of a slice
            are then always the same and may be cached: `forward_features(encode(…), …)`.
        multilabel: K findings, not one of K classes; asked by `noisy_or` alone.

    Raises:
        MedvisionError: an argument is out of range, or (`forward`) lengths do not fit the image.

    Reference:
        Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014,
        arXiv:1406.1078 (`gru`). Hochreiter, Schmidhuber: Long Short-Term Memory, Neural Computation
        9(8), 1997 (`lstm`). Elman: Finding Structure in Time, Cognitive Science 14, 1990 (`rnn`).
        Schuster, Paliwal: Bidirectional Recurrent Neural Networks, IEEE TSP 45(11), 1997.
        Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep
        linear neural networks, ICLR 2014, arXiv:1312.6120 (`orthogonal`).
        Wang et al.: A deep learning algorithm for automatic detection and classification of acute
        intracranial hemorrhages in head CT scans, NeuroImage: Clinical 32:102785, 2021 (2-D nets,
        then sequence models: the winner of RSNA 2019; ours may also train end to end).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        encoder: Callable[..., nn.Module],
        cell: str | None = "gru",
        hidden: int = 128,
        layers: int = 1,
        bidirectional: bool = True,
        aggregation: str = "attention",
        differences: bool = True,
        step_input: bool = True,
        dropout: float = 0.3,
        slice_head: bool = True,
        init: str = "orthogonal",
        encode_batch: int | None = None,
        freeze_encoder: bool = False,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        _check(num_classes, cell, hidden, layers, aggregation, dropout, slice_head, init,
               encode_batch, multilabel)  # fmt: skip
        built = build_net(encoder, num_classes, in_channels)
        self.activation = getattr(built, "activation", "relu")
        self.encoder, features = without_head(built)
        self.differences, self.step_input, self.multilabel = differences, step_input, multilabel
        self.encode_batch = encode_batch
        self.dropout = nn.Dropout(dropout)
        width = features * (3 if differences else 1) + step_input
        self.cell: nn.RNNBase | None = None
        if cell is not None:
            between = dropout if layers > 1 else 0.0
            self.cell = CELLS[cell](width, hidden, layers, batch_first=True, dropout=between,
                                    bidirectional=bidirectional)  # fmt: skip
            width = hidden * (1 + bidirectional)
            if init == "orthogonal":
                _orthogonalise(self.cell)
        pools = aggregation != "noisy_or"
        both = cell is not None and bidirectional
        self.aggregation = Aggregation(aggregation, width, both) if pools else None
        self.slice_head = nn.Linear(width, num_classes) if slice_head else None
        # Registered last: the study head is the head that freezing and loading look for.
        self.head = nn.Linear(width, num_classes) if pools else None
        self.freeze_encoder_body(freeze_encoder)

    @staticmethod
    def complete(arguments: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Settle `slice_head: null`: a head that nothing supervises would answer with noise."""
        settled = dict(arguments)
        if settled.get("slice_head", True) is None:
            noisy = settled.get("aggregation") == "noisy_or"
            settled["slice_head"] = noisy or bool(facts["slice_labels"])
        return settled

    def freeze_encoder_body(self, frozen: bool = True) -> None:
        """Freeze or thaw the encoder: its weights, and what its norms and dropout do."""
        self.freeze_encoder = frozen
        self.encoder.requires_grad_(not frozen)
        self.train(self.training)

    def forward(
        self,
        image: Float[Tensor, "B S C H W"],
        length: Int[Tensor, "B"],
        step: Float[Tensor, "B S"] | None = None,
    ) -> dict[str, Tensor]:
        """Answer for B series of 1 to S slices each.

        Args:
            image: in [0, 1]; what stands behind a series' length is never looked at.
            length: number of slices, at least 1; a GPU is waited for unless it lies on the host.
            step: distance to the previous slice (mm, s or 1); None: 1.

        Returns:
            `logits` [B,K]; `slice_logits` [B,S,K], 0 on padding (only with a slice head);
            `attention` [B,S], the weight of each slice in the study's answer, 0 on padding.
        """
        if step is None:
            step = image.new_ones(image.shape[:2])
        return self.forward_features(self.encode(image, length), length, step)

    def encode(
        self, image: Float[Tensor, "B S C H W"], length: Int[Tensor, "B"]
    ) -> Float[Tensor, "N F"]:
        """Return the features of the valid slices, series after series."""
        places = find_places(length, image.shape[1]).to(image.device, non_blocking=True)
        slices = image.flatten(0, 1)[places]
        chunks = torch.split(slices, self.encode_batch or len(slices))
        return torch.cat([self.encoder(chunk) for chunk in chunks])

    def forward_features(
        self,
        features: Float[Tensor, "N F"],
        length: Int[Tensor, "B"],
        step: Float[Tensor, "B S"] | None = None,
    ) -> dict[str, Tensor]:
        """Answer from encoded slices, as `forward` does; without `step`, S is the longest series.

        Raises:
            MedvisionError: there are more or fewer features than valid slices.
        """
        length, device = length.cpu(), features.device
        if step is None:
            step = features.new_ones((len(length), max(length.tolist())))
        places = find_places(length, step.shape[1])
        if len(features) != len(places):
            raise MedvisionError(
                f"{len(features)} encoded slices do not fit series of {len(places)} slices "
                "together; give the features of these series, without padding"
            )
        there = length.to(device, non_blocking=True)
        valid = torch.arange(step.shape[1], device=device) < there[:, None]
        places = places.to(device, non_blocking=True)
        # Under bf16 a long recurrence would lose digits at each slice, for little time gained.
        with torch.autocast(device.type, enabled=False):
            return self._answer(self._describe(features, step, places, valid), length, valid)

    def train(self, mode: bool = True) -> "SliceRNN":
        """Leave a frozen encoder in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def _describe(self, features: Tensor, step: Tensor, places: Tensor, valid: Tensor) -> Tensor:
        """Return the inputs of the recurrence [B,S,D], 0 on padding."""
        weight = next(head for head in (self.head, self.slice_head) if head is not None).weight
        padded = features.new_zeros((valid.numel(), features.shape[1]), dtype=weight.dtype)
        padded[places] = features.to(weight.dtype)
        padded = padded.view(*valid.shape, -1)
        parts = [padded]
        if self.differences:
            change = (padded[:, 1:] - padded[:, :-1]) * valid[:, 1:, None]
            end = torch.zeros_like(padded[:, :1])
            parts += [torch.cat((end, change), 1), torch.cat((-change, end), 1)]
        if self.step_input:
            known = torch.where(valid, step, 1.0).to(padded).clamp_min(_SMALLEST_STEP)
            parts.append(known.log()[:, :, None])
        return torch.cat(parts, 2)

    def _answer(self, inputs: Tensor, length: Tensor, valid: Tensor) -> dict[str, Tensor]:
        states = self._recur(inputs, length)
        answer: dict[str, Tensor] = {}
        if self.slice_head is not None:
            slice_logits = self.slice_head(self.dropout(states))
            answer["slice_logits"] = slice_logits.masked_fill(~valid[:, :, None], 0)
        if self.aggregation is None or self.head is None:
            pooled = noisy_or(answer["slice_logits"], valid, self.multilabel)
            return answer | dict(zip(("logits", "attention"), pooled, strict=True))
        pooled, attention = self.aggregation(states, valid)
        return answer | {"logits": self.head(self.dropout(pooled)), "attention": attention}

    def _recur(self, inputs: Tensor, length: Tensor) -> Tensor:
        if self.cell is None:
            return inputs
        # Sorted here, on the host: torch would send the order there and back, and wait each time.
        length, order = length.sort(descending=True)
        there, back = (o.to(inputs.device, non_blocking=True) for o in (order, order.argsort()))
        packed = pack_padded_sequence(
            self.dropout(inputs).index_select(0, there), length, batch_first=True
        )
        # cuDNN cannot go backwards through a recurrence in evaluation mode, as Grad-CAM does.
        explained = inputs.requires_grad and not self.training
        with torch.backends.cudnn.flags(enabled=False) if explained else nullcontext():
            states = self.cell(packed)[0]
        padded = pad_packed_sequence(states, batch_first=True, total_length=inputs.shape[1])[0]
        return padded.index_select(0, back)


def find_places(length: Int[Tensor, "B"], slices: int) -> Int[Tensor, "N"]:
    """Return where in the flattened [B,S] the slices of series stand, on the host.

    Raises:
        MedvisionError: a series is empty or longer than S.
    """
    lengths, slices = length.cpu().numpy(), int(slices)  # where a net is traced it is a tensor
    wrong = lengths[(lengths < 1) | (lengths > slices)]
    if len(wrong):
        raise MedvisionError(
            f"a series of {int(wrong[0])} slices does not fit a batch of 1 to {slices}; "
            "leave empty series out and give each its number of slices as length"
        )
    return torch.from_numpy(np.flatnonzero(np.arange(slices) < lengths[:, None]))


def _orthogonalise(cell: nn.RNNBase) -> None:
    """Draw the recurrent weights of each layer, direction and gate as an orthogonal matrix."""
    for name, weight in cell.named_parameters():
        if name.startswith("weight_hh"):
            for gate in torch.split(weight.detach(), cell.hidden_size):
                nn.init.orthogonal_(gate)


def _check(
    num_classes: int, cell: str | None, hidden: int, layers: int, aggregation: str, dropout: float,
    slice_head: bool, init: str, encode_batch: int | None, multilabel: bool,
) -> None:  # fmt: skip
    noisy = aggregation == "noisy_or"
    wrong = {
        f"num_classes={num_classes} (at least 1)": num_classes < 1,
        f"cell={cell} ({', '.join(CELLS)} or null)": cell is not None and cell not in CELLS,
        f"hidden={hidden} (at least 1)": hidden < 1,
        f"layers={layers} (at least 1)": layers < 1,
        f"aggregation={aggregation} ({', '.join(_AGGREGATIONS)})": aggregation not in _AGGREGATIONS,
        "aggregation=last (without a cell it would read one slice alone)": (
            aggregation == "last" and cell is None
        ),
        "aggregation=noisy_or (with slice_head=true)": noisy and not slice_head,
        f"aggregation=noisy_or for {num_classes} classes (a finding is there or not: two classes, "
        "or multilabel=true)": noisy and num_classes != 2 and not multilabel,
        f"dropout={dropout} (from 0 to below 1)": not 0 <= dropout < 1,
        f"init={init} ({' or '.join(_INITS)})": init not in _INITS,
        f"encode_batch={encode_batch} (at least 1, or null)": (
            encode_batch is not None and encode_batch < 1
        ),
    }
    problems = [problem for problem, is_wrong in wrong.items() if is_wrong]
    if problems:
        raise MedvisionError(f"SliceRNN cannot be built: {'; '.join(problems)}; change these keys")

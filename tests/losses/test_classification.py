import math
from functools import partial

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from sklearn.metrics import brier_score_loss
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from medvision import losses
from medvision.errors import MedvisionError

cross_entropy, focal, brier, slice_loss = (
    jaxtyped(typechecker=beartype)(loss)
    for loss in (losses.cross_entropy, losses.focal, losses.brier, losses.slice_loss)
)
ALL = pytest.mark.parametrize("loss", [cross_entropy, focal, brier], ids=lambda f: f.__name__)


@pytest.fixture
def logits():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) * 3


LABEL = torch.arange(12) % 4
MANY = (torch.arange(48).reshape(12, 4) % 3 == 0).float()
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_torch(logits, weights, smoothing):
    ours = cross_entropy(logits, LABEL, weights, smoothing)
    theirs = functional.cross_entropy(logits, LABEL, weights, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_mixed_labels_are_those_of_torch(logits):
    mixed = logits.roll(1, 0).softmax(1)
    torch.testing.assert_close(
        cross_entropy(logits, mixed), functional.cross_entropy(logits, mixed)
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_multilabel_cross_entropy_is_that_of_torch(logits, weights):
    ours = cross_entropy(logits, MANY, weights, multilabel=True)
    theirs = functional.binary_cross_entropy_with_logits(logits, MANY, pos_weight=weights)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_that_of_torchvision(logits, gamma):
    theirs = sigmoid_focal_loss(logits, MANY, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal(logits, MANY, gamma=gamma, multilabel=True), theirs)
    one = logits[:, :1]
    pair = torch.cat((torch.zeros_like(one), one), 1)
    theirs = sigmoid_focal_loss(one, MANY[:, :1], alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal(pair, MANY[:, 0].long(), gamma=gamma), theirs)


def test_focal_without_gamma_is_cross_entropy(logits):
    ours = focal(logits, LABEL, WEIGHTS, gamma=0.0)
    torch.testing.assert_close(ours, functional.cross_entropy(logits, LABEL, WEIGHTS))


def test_focal_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]])
    expected = 0.25**2 * -math.log(0.75)
    assert focal(logits, torch.tensor([1])).item() == pytest.approx(expected)


def test_brier_is_the_mean_squared_error_of_probabilities(logits):
    one_hot = functional.one_hot(LABEL, 4).float()
    torch.testing.assert_close(
        brier(logits, LABEL), functional.mse_loss(logits.softmax(1), one_hot)
    )
    torch.testing.assert_close(
        brier(logits, MANY, multilabel=True), functional.mse_loss(logits.sigmoid(), MANY)
    )


def test_brier_of_two_classes_is_the_usual_score(logits):
    pair, label = logits[:, :2], LABEL % 2
    expected = brier_score_loss(label.numpy(), pair.softmax(1)[:, 1].double().numpy())
    assert brier(pair, label).item() == pytest.approx(expected, rel=1e-5)


@ALL
def test_a_class_index_equals_its_one_hot_row(logits, loss):
    one_hot = functional.one_hot(LABEL, 4).float()
    torch.testing.assert_close(
        loss(logits, LABEL, WEIGHTS, 0.1), loss(logits, one_hot, WEIGHTS, 0.1)
    )


@ALL
def test_a_weight_counts_as_so_many_images(logits, loss):
    weights = torch.tensor([1.0, 1.0, 1.0, 3.0])
    rows = torch.tensor([i for i in range(12) for _ in range(3 if LABEL[i] == 3 else 1)])
    torch.testing.assert_close(loss(logits, LABEL, weights), loss(logits[rows], LABEL[rows]))


@ALL
@pytest.mark.parametrize("kind", ["index", "mixed", "multilabel"])
def test_what_is_unlabelled_counts_for_nothing(logits, loss, kind):
    label = LABEL.clone() if kind == "index" else MANY.clone()
    label[3:5] = -1 if kind == "index" else float("nan")
    kept = [i for i in range(12) if i not in (3, 4)]
    many = kind == "multilabel"
    logits.requires_grad_()
    whole = loss(logits, label, WEIGHTS, 0.1, multilabel=many)
    torch.testing.assert_close(
        whole, loss(logits[kept], label[kept], WEIGHTS, 0.1, multilabel=many)
    )
    whole.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[3:5].any()
    assert logits.grad[kept].any()


@ALL
@pytest.mark.parametrize("many", [False, True])
def test_a_batch_without_labels_costs_nothing(logits, loss, many):
    logits.requires_grad_()
    label = torch.full((12, 4), float("nan")) if many else torch.full((12,), -1)
    cost = loss(logits, label, multilabel=many)
    cost.backward()
    assert cost.item() == 0
    assert not logits.grad.any()


@ALL
@pytest.mark.parametrize("many", [False, True])
def test_extreme_logits_stay_finite(loss, many):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    label = torch.tensor([[1.0, 0.0], [1.0, 0.0]]) if many else torch.tensor([0, 0])
    cost = loss(logits, label, multilabel=many)
    cost.backward()
    assert cost.isfinite()
    assert logits.grad.isfinite().all()


@ALL
def test_half_precision_is_widened_under_autocast(logits, loss):
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        cost = loss(half, LABEL)
    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, loss(half.float(), LABEL))


@ALL
@pytest.mark.parametrize("many", [False, True])
def test_gradients_are_those_of_finite_differences(logits, loss, many):
    label = MANY if many else LABEL
    weights = WEIGHTS.double()

    def cost(x):
        return loss(x, label, weights, 0.1, multilabel=many)

    assert torch.autograd.gradcheck(cost, logits.double().requires_grad_())


def test_labels_of_the_wrong_kind_are_refused(logits):
    with pytest.raises(MedvisionError) as caught:
        losses.cross_entropy(logits, LABEL, multilabel=True)
    assert str(caught.value) == (
        "labels of shape [12] do not fit logits of shape [12, 4] with multilabel=true; "
        "change multilabel"
    )
    with pytest.raises(MedvisionError, match=r"shape \[12, 3\] do not fit"):
        losses.brier(logits, MANY[:, :3])


def test_shapes_are_part_of_the_signature(logits):
    with pytest.raises(TypeCheckError):
        cross_entropy(logits, LABEL[:5])


SLICES = torch.tensor([4, 1, 3])
INSIDE = torch.arange(4) < SLICES[:, None]


def labelled_slices(logits, many):
    """Three series of 4, 1 and 3 slices, padded to 4, every third slice unlabelled."""
    label = MANY.reshape(3, 4, 4).clone() if many else LABEL.reshape(3, 4).clone()
    label.view(12, *label.shape[2:])[::3] = float("nan") if many else -1
    return logits.reshape(3, 4, 4).clone(), label


@ALL
@pytest.mark.parametrize("many", [False, True])
def test_slice_loss_is_the_loss_of_the_labelled_slices(logits, loss, many):
    slices, label = labelled_slices(logits, many)
    labelled = ~label.isnan().any(2) if many else label >= 0
    expected = loss(
        slices[INSIDE & labelled], label[INSIDE & labelled], WEIGHTS, 0.1, multilabel=many
    )
    smoothed = partial(loss, label_smoothing=0.1)
    ours = slice_loss(slices, label, SLICES, smoothed, WEIGHTS, many)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("many", [False, True])
def test_slice_loss_never_looks_at_padding(logits, many):
    slices, label = labelled_slices(logits, many)
    plain = slice_loss(slices, label, SLICES, multilabel=many)
    slices[~INSIDE] = float("nan")
    label[~INSIDE] = 1
    slices.requires_grad_()
    cost = slice_loss(slices, label, SLICES, multilabel=many)
    cost.backward()
    assert cost.item() == plain.item()
    assert not slices.grad[~INSIDE].any()
    assert slices.grad[INSIDE].any()


def test_slice_loss_without_labels_costs_nothing_but_can_be_stepped(logits):
    slices = logits.reshape(3, 4, 4).requires_grad_()
    cost = slice_loss(slices, torch.full((3, 4), -1), SLICES)
    cost.backward()
    assert cost.item() == 0
    assert not slices.grad.any()

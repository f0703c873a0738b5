import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch.nn import functional

from medvision import losses
from medvision.losses.ordinal import cumulative_logits

cumulative = jaxtyped(typechecker=beartype)(losses.cumulative)
DRAW = torch.Generator().manual_seed(0)
ANSWER = 3 * torch.randn(12, 3, generator=DRAW)
LABEL = torch.arange(12) % 4


def shares(answer):
    """The probability of each grade, by subtraction in double precision."""
    above = cumulative_logits(answer.double()).sigmoid()
    whole = torch.cat([torch.ones(len(above), 1), above, torch.zeros(len(above), 1)], 1)
    return whole[:, :-1] - whole[:, 1:]


def test_thresholds_cannot_cross():
    steps = cumulative_logits(100 * ANSWER).diff(dim=1)
    assert (steps <= 0).all()
    assert (cumulative_logits(ANSWER).diff(dim=1) < 0).all()
    assert torch.equal(cumulative_logits(ANSWER)[:, 0], ANSWER[:, 0])


def test_it_is_the_likelihood_of_the_grades():
    expected = -shares(ANSWER)[torch.arange(12), LABEL].log().mean()
    torch.testing.assert_close(cumulative(ANSWER, LABEL), expected.float())


def test_two_grades_are_the_binary_cross_entropy():
    theirs = functional.binary_cross_entropy_with_logits(ANSWER[:, 0], LABEL.float() % 2)
    torch.testing.assert_close(cumulative(ANSWER[:, :1], LABEL % 2), theirs)


def test_equal_distances_are_proportional_odds():
    """The odds of lying above a grade differ between two images by one factor for all grades."""
    answer = torch.tensor([[0.3, 1.0, -2.0], [1.7, 1.0, -2.0]])
    ratio = cumulative_logits(answer).diff(dim=0)
    torch.testing.assert_close(ratio, torch.full((1, 3), 1.4))


def test_far_off_and_unknown_rows_keep_a_gradient_that_is_a_number():
    answer = torch.tensor([[900.0, -900, 900], [-900, 900, -900], [0, 0, 0]]).requires_grad_()
    loss = cumulative(answer, torch.tensor([0, 3, -1]))
    assert float(loss) > 400
    loss.backward()
    assert torch.isfinite(answer.grad).all()
    assert (answer.grad[2] == 0).all()
    assert float(cumulative(ANSWER, torch.full((12,), -1))) == 0


@pytest.mark.parametrize("unknown", [0, 5])
def test_unknown_rows_count_for_nothing(unknown):
    label = LABEL.clone()
    label[unknown] = -1
    kept = torch.arange(12) != unknown
    torch.testing.assert_close(cumulative(ANSWER, label), cumulative(ANSWER[kept], LABEL[kept]))

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional

from medvision import losses

absolute_error, squared_error, gaussian, quantile = (
    jaxtyped(typechecker=beartype)(loss)
    for loss in (losses.absolute_error, losses.squared_error, losses.gaussian, losses.quantile)
)
DRAW = torch.Generator().manual_seed(0)
VALUE, ANSWER, LOW, HIGH = (torch.randn(9, 2, generator=DRAW) for _ in range(4))
EACH = [(absolute_error, 1), (squared_error, 1), (gaussian, 2), (quantile, 3)]


def test_distances_and_likelihood_are_those_of_torch():
    torch.testing.assert_close(absolute_error(ANSWER, VALUE), functional.l1_loss(ANSWER, VALUE))
    torch.testing.assert_close(squared_error(ANSWER, VALUE), functional.mse_loss(ANSWER, VALUE))
    theirs = functional.gaussian_nll_loss(ANSWER, VALUE, LOW.exp())
    torch.testing.assert_close(gaussian(ANSWER, LOW, VALUE), theirs)


def test_quantiles_are_the_pinball_loss_of_scikit_learn():
    expected = [
        mean_pinball_loss(VALUE.numpy(), answer.numpy(), alpha=share)
        for answer, share in ((LOW, 0.1), (ANSWER, 0.5), (HIGH, 0.9))
    ]
    found = quantile(LOW, ANSWER, HIGH, VALUE, level=0.8)
    assert float(found) == pytest.approx(sum(expected) / 3, abs=1e-6)


def test_what_minimises_them_is_median_mean_width_and_quantiles():
    value = 3 * torch.rand(1001, 1, generator=DRAW).square()  # skewed
    answers = torch.ones(1, 5).requires_grad_()
    optimizer = torch.optim.Adam([answers], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        held = [column.expand(len(value), 1) for column in answers.T]
        loss = gaussian(held[0], held[1], value) + quantile(*held[2:], value)
        loss.backward()
        optimizer.step()
    found = answers.detach()[0]
    torch.testing.assert_close(found[0], value.mean(), atol=0.05, rtol=0)
    torch.testing.assert_close(found[1].exp().sqrt(), value.std(), atol=0.1, rtol=0)
    expected = value[:, 0].quantile(torch.tensor([0.05, 0.5, 0.95]))
    torch.testing.assert_close(found[2:], expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(("loss", "outputs"), EACH)
def test_what_is_unknown_counts_for_nothing(loss, outputs):
    answers = [answer.clone() for answer in (ANSWER, LOW, HIGH)[:outputs]]
    value = VALUE.clone()
    value[:4, 0] = torch.nan
    value[2:5, 1] = torch.nan
    each = [loss(*(a[:, k : k + 1] for a in answers), VALUE[:, k : k + 1]) for k in range(2)]
    assert float(loss(*answers, VALUE)) == pytest.approx(float(sum(each)) / 2, abs=1e-6)
    parts = [
        loss(*(a[known, k][:, None] for a in answers), value[known, k][:, None]) * known.sum()
        for k, known in enumerate(~value.isnan().T)
    ]
    held = [answer.requires_grad_() for answer in answers]
    found = loss(*held, value)
    assert found.item() == pytest.approx(sum(parts).item() / int((~value.isnan()).sum()), abs=1e-6)
    found.backward()
    assert all(torch.isfinite(answer.grad).all() for answer in held)
    assert all((answer.grad[value.isnan()] == 0).all() for answer in held)


@pytest.mark.parametrize(("loss", "outputs"), EACH)
def test_a_batch_of_unknowns_is_0_and_half_precision_is_widened(loss, outputs):
    held = [answer.half().requires_grad_() for answer in (ANSWER, LOW, HIGH)[:outputs]]
    nothing = loss(*held, torch.full_like(VALUE, torch.nan))
    assert float(nothing) == 0
    nothing.backward()
    assert all((answer.grad == 0).all() for answer in held)
    assert loss(*held, VALUE).dtype == torch.float32

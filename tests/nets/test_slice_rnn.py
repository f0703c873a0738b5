import itertools
from functools import partial

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import nn
from torchvision import models

from medvision.errors import MedvisionError
from medvision.nets import aggregation
from medvision.nets.aggregation import Aggregation
from medvision.nets.build import build_net
from medvision.nets.convnet import ConvNet
from medvision.nets.encoder import Encoder, encoder, find_head
from medvision.nets.slice_rnn import SliceRNN
from medvision.nets.transfer import load_weights

forward = jaxtyped(typechecker=beartype)(SliceRNN.forward)
noisy_or = jaxtyped(typechecker=beartype)(aggregation.noisy_or)
Aggregation.forward = jaxtyped(typechecker=beartype)(Aggregation.forward)

TINY = partial(ConvNet, widths=(4, 6), dropout=0.0)
LENGTH = torch.tensor([3, 5, 1])
PADDING = torch.arange(6) >= LENGTH[:, None]
PLACES = (~PADDING).flatten().nonzero()[:, 0]
CELLS = ("gru", "lstm", "rnn", None)
POOLS = ("last", "mean", "max", "attention", "noisy_or")
COMBINATIONS = [pair for pair in itertools.product(CELLS, POOLS) if pair != (None, "last")]
ALL = pytest.mark.parametrize(("cell", "pool"), COMBINATIONS)


def small(**changes):
    torch.manual_seed(0)
    chosen = {"num_classes": 2, "in_channels": 2, "encoder": TINY, "hidden": 5} | changes
    net = SliceRNN(**chosen).eval()
    for parameter in net.parameters():  # blocks of the encoder start as shortcuts, biases at 0
        parameter.data += 0.3 * torch.randn_like(parameter)
    return net


def series(slices=6, seed=1):
    """Three series of 3, 5 and 1 slices, padded with zeros to `slices`."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, slices, 2, 8, 8, generator=generator)
    image *= torch.rand(3, slices, 2, 1, 1, generator=generator)  # or all slices look the same
    step = torch.rand(3, slices, generator=generator) * 5 + 0.5
    padding = torch.arange(slices) >= LENGTH[:, None]
    image[padding], step[padding] = 0, 0
    return image, LENGTH, step


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=0, msg=name)


@ALL
@torch.no_grad()
def test_padding_changes_nothing(cell, pool):
    net = small(cell=cell, aggregation=pool)
    image, length, step = series()
    plain = forward(net, image, length, step)
    assert plain["logits"].shape == (3, 2)
    assert not plain["slice_logits"][PADDING].any()
    assert not plain["attention"][PADDING].any()
    image[PADDING], step[PADDING] = float("nan"), float("nan")
    assert_equal(net(image, length, step), plain)
    tight = net(image[:, :5], length, step[:, :5])
    assert_equal(tight, {k: v if k == "logits" else v[:, :5] for k, v in plain.items()})


@ALL
@pytest.mark.parametrize("choice", [{}, {"bidirectional": False, "layers": 2}])
@torch.no_grad()
def test_a_mixed_batch_equals_one_by_one(cell, pool, choice):
    net = small(cell=cell, aggregation=pool, **choice)
    image, length, step = series()
    together = net(image, length, step)
    for row, n in enumerate(LENGTH):
        alone = net(image[row : row + 1, :n], length[row : row + 1], step[row : row + 1, :n])
        assert_equal(alone, {k: v[row : row + 1, :n] if k != "logits" else v[row : row + 1]
                             for k, v in together.items()})  # fmt: skip


@ALL
@torch.no_grad()
def test_only_pooling_is_blind_to_the_order(cell, pool):
    net = small(cell=cell, aggregation=pool, differences=False)
    image = series()[0]
    length = torch.tensor([5])
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, shuffled = (net(chosen, length) for chosen in (image[1:2, :5], image[1:2, order]))
    apart = (plain["logits"] - shuffled["logits"]).abs().max()
    if cell is None:
        assert apart < 1e-6
        torch.testing.assert_close(shuffled["attention"], plain["attention"][:, order])
    else:
        assert apart > 1e-4


@torch.no_grad()
def test_differences_tell_the_order_even_to_pooling():
    net = small(cell=None, aggregation="max")
    image, length = series()[0][1:2, :5], torch.tensor([5])
    assert (net(image, length)["logits"] - net(image.flip(1), length)["logits"]).abs().max() > 1e-4


@ALL
def test_attention_is_a_share_of_the_slices(cell, pool):
    attention = small(cell=cell, aggregation=pool)(*series())["attention"]
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    assert (attention >= 0).all()
    assert attention[2, 0] == 1, "a series of one slice has but one to look at"


@ALL
def test_gradients_reach_all_slices_and_no_padding(cell, pool):
    net = small(cell=cell, aggregation=pool).train()
    image, length, step = series()
    image.requires_grad_()
    answer = net(image, length, step)
    (answer["logits"].square().sum() + answer["slice_logits"].square().sum()).backward()
    per_slice = image.grad.abs().sum((2, 3, 4))
    assert not per_slice[PADDING].any()
    assert (per_slice[~PADDING] > 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("encode_batch", [None, 2, 100])
@torch.no_grad()
def test_cached_features_and_chunks_are_the_same_as_end_to_end(encode_batch):
    net = small()
    image, length, step = series()
    whole = net(image, length, step)
    net.encode_batch = encode_batch
    features = net.encode(image, length)
    assert features.shape == (9, 6)
    torch.testing.assert_close(features[3:8], net.encoder(image[1, :5]))
    assert_equal(net.forward_features(features, length, step), whole)
    unknown = net.forward_features(features, length)
    assert unknown["attention"].shape == (3, 5)
    assert_equal(net(image[:, :5], length), unknown)


def test_a_frozen_encoder_stays_as_it_is_in_training():
    net = small(freeze_encoder=True).train()
    image, length, step = series()
    before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
    features = net.encode(image, length)
    assert not features.requires_grad
    net.forward_features(features, length, step)["logits"].sum().backward()
    assert all(p.grad is None for p in net.encoder.parameters())
    assert net.cell.weight_hh_l0.grad.any()
    assert all(torch.equal(value, before[n]) for n, value in net.encoder.state_dict().items())
    assert torch.equal(net.encode(image, length), features)


@torch.no_grad()
def test_inputs_are_features_differences_and_the_logarithm_of_the_step():
    net = small()
    image, length, step = series()
    features = net.encode(image, length)
    inputs = net._describe(features, step, PLACES, ~PADDING)
    own, before, after, log_step = inputs.split([6, 6, 6, 1], 2)
    rows = features[3:8]
    torch.testing.assert_close(own[1, :5], rows)
    torch.testing.assert_close(before[1, 1:5], rows[1:] - rows[:-1])
    torch.testing.assert_close(after[1, :4], rows[:-1] - rows[1:])
    torch.testing.assert_close(log_step[1, :5, 0], step[1, :5].log())
    assert not before[:, 0].any()
    assert not after[torch.arange(3), LENGTH - 1].any(), "0 at the end of each series"
    assert not inputs[PADDING].any()
    step[1, 2] = 0  # two slices at one place
    assert net._describe(features, step, PLACES, ~PADDING).isfinite().all()


def test_last_takes_each_direction_where_it_ends():
    net = small(aggregation="last")
    image, length, step = series()
    inputs = net._describe(net.encode(image, length), step, PLACES, ~PADDING)
    states = net._recur(inputs, length)
    pooled, weight = net.aggregation(states, ~PADDING)
    torch.testing.assert_close(pooled[1], torch.cat((states[1, 4, :5], states[1, 0, 5:])))
    assert weight[1].tolist() == [0.5, 0, 0, 0, 0.5, 0]
    forwards = small(aggregation="last", bidirectional=False)
    assert forwards(image, length, step)["attention"][1].tolist() == [0, 0, 0, 0, 1, 0]


def test_weights_of_mean_and_max_by_hand():
    states = torch.tensor([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0], [9.0, 9.0, 9.0, 99.0]]])
    valid = torch.tensor([[True, True, False]])
    pooled, weight = Aggregation("mean", 4)(states, valid)
    assert pooled.tolist() == [[2, 4.5, 2, 4.5]]
    assert weight.tolist() == [[0.5, 0.5, 0]]
    pooled, weight = Aggregation("max", 4)(states, valid)
    assert pooled.tolist() == [[3, 5, 2, 9]]
    assert weight.tolist() == [[0.375, 0.625, 0]], "1 feature of 4 alone, half of the equal one"


@pytest.mark.parametrize("multilabel", [False, True])
def test_noisy_or_is_one_minus_the_product(multilabel):
    slice_logits = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0)) * 3
    logits, _ = noisy_or(slice_logits, ~PADDING, multilabel)
    p = slice_logits.double().sigmoid() if multilabel else slice_logits.double().softmax(2)[..., 1:]
    expected = 1 - torch.where(PADDING[:, :, None], 1, 1 - p).prod(1)
    found = logits.double().sigmoid() if multilabel else logits.double().softmax(1)[:, 1:]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    if multilabel:
        torch.testing.assert_close(logits[2], slice_logits[2, 0])  # one slice: its own logit


@pytest.mark.parametrize("level", [-200.0, -30.0, 30.0, 200.0])
def test_noisy_or_of_extreme_slices_stays_finite(level):
    slice_logits = torch.full((1, 4, 3), level, requires_grad=True)
    logits, share = noisy_or(slice_logits, torch.ones(1, 4, dtype=torch.bool), multilabel=True)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert slice_logits.grad.isfinite().all()
    assert share.isfinite().all()
    if abs(level) == 30:
        expected = level + torch.tensor(4.0).log() if level < 0 else torch.tensor(4 * level)
        torch.testing.assert_close(logits[0, 0], expected)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_recurrent_weights_start_orthogonal_gate_by_gate(cell):
    def gates(init):
        torch.manual_seed(0)
        net = SliceRNN(2, 1, encoder=TINY, cell=cell, hidden=7, layers=2, init=init)
        names = [name for name, _ in net.cell.named_parameters() if name.startswith("weight_hh")]
        assert len(names) == 4
        return [gate for name in names for gate in getattr(net.cell, name).split(7)]

    orthogonal, default = gates("orthogonal"), gates("default")
    assert len(orthogonal) == 4 * {"gru": 3, "lstm": 4, "rnn": 1}[cell]
    for gate in orthogonal:
        torch.testing.assert_close(gate @ gate.T, torch.eye(7))
    assert all((gate @ gate.T - torch.eye(7)).abs().max() > 0.1 for gate in default)
    assert not torch.equal(orthogonal[0], orthogonal[1])


ENCODERS = {
    "squeezenet": (partial(models.squeezenet1_1, weights=None), 512),
    "resnet": (partial(models.resnet18, weights=None), 512),
    "convnet": (TINY, 6),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_any_image_net_encodes_the_slices(name):
    encoder, width = ENCODERS[name]
    built = build_net(
        partial(SliceRNN, encoder=encoder, hidden=4, slice_head=False), num_classes=3, in_channels=2
    )
    image = torch.rand(2, 3, 2, 33, 33)
    answer = built.eval()(image, torch.tensor([3, 1]))
    assert answer["logits"].shape == (2, 3)
    assert set(answer) == {"logits", "attention"}
    assert built.encode(image, torch.tensor([3, 1])).shape == (4, width)
    assert isinstance(built.encoder, Encoder)
    assert find_head(built)[0] == "head"


def test_a_trained_image_net_gives_its_weights_to_the_encoder(tmp_path):
    trained = ConvNet(7, 2, widths=(4, 6), dropout=0.0).eval()
    torch.save(trained.state_dict(), tmp_path / "cnn.pt")
    net = small(cell=None, aggregation="mean")
    load_weights(net, tmp_path / "cnn.pt")
    image, length, _ = series()
    expected = trained.stages(trained.stem(image[0, :3])).mean((2, 3))
    torch.testing.assert_close(net.encode(image, length)[:3], expected)


@torch.no_grad()
def test_memory_format_and_autocast_change_no_more_than_rounding():
    net = small(aggregation="max")
    image, length, step = series()
    plain = net(image, length, step)
    net = net.to(memory_format=torch.channels_last)
    last = image.movedim(2, -1).contiguous().movedim(-1, 2)
    seen = []
    net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert_equal(net(last, length, step), plain)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(image, length, step)
    assert rounded["logits"].dtype == torch.float32
    torch.testing.assert_close(rounded["logits"], plain["logits"], atol=0.05, rtol=0.05)


def test_autocast_trains_and_bf16_weights_run():
    net = small().train()
    image, length, step = series()
    with torch.autocast("cpu", torch.bfloat16):
        net(image, length, step)["logits"].sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    half = small().bfloat16()(image.bfloat16(), length, step)
    assert half["logits"].dtype == torch.bfloat16


def ordered(n, generator):
    """Series of 4 to 7 slices with a bright left and a bright right one; the label: which first."""
    length = torch.randint(4, 8, (n,), generator=generator)
    image = torch.rand(n, 7, 1, 6, 6, generator=generator) * 0.3
    label = torch.randint(0, 2, (n,), generator=generator)
    for row in range(n):
        ends = torch.randperm(int(length[row]), generator=generator)[:2].sort().values
        left, right = ends if label[row] else ends.flip(0)
        image[row, left, :, :, :3] += 0.7
        image[row, right, :, :, 3:] += 0.7
    return image, length, label


@pytest.mark.parametrize(("cell", "low", "high"), [("gru", 0.95, 1.0), (None, 0.35, 0.65)])
def test_order_is_learned_by_recurrence_and_not_by_pooling(cell, low, high):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = SliceRNN(2, 1, encoder=Halves, cell=cell, hidden=16, aggregation="mean", dropout=0.0,
                   differences=False)  # fmt: skip
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(120):
        image, length, label = ordered(32, generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(image, length)["logits"], label).backward()
        optimiser.step()
    image, length, label = ordered(200, generator)
    with torch.no_grad():
        right = net.eval()(image, length)["logits"].argmax(1) == label
    assert low <= right.float().mean() <= high


class Halves(nn.Module):
    """The smallest net that can tell left from right."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body = nn.Conv2d(in_channels, 4, 6)
        self.head = nn.Linear(4, num_classes)

    def forward(self, image):
        return self.head(self.body(image).relu().flatten(1))


@pytest.mark.parametrize("length", [[3, 0, 1], [3, 7, 1], [3, -1, 1]])
def test_a_length_that_does_not_fit_is_refused(length):
    image, _, step = series()
    with pytest.raises(MedvisionError) as caught:
        small()(image, torch.tensor(length), step)
    assert str(caught.value) == (
        f"a series of {length[1]} slices does not fit a batch of 1 to 6; "
        "leave empty series out and give each its number of slices as length"
    )


def test_features_of_other_series_are_refused():
    with pytest.raises(MedvisionError, match="8 encoded slices do not fit series of 9 slices"):
        small().forward_features(torch.rand(8, 6), LENGTH)


def test_all_wrong_arguments_are_named_at_once():
    with pytest.raises(MedvisionError) as caught:
        SliceRNN(3, 1, encoder=TINY, cell="gruu", aggregation="noisy_or", dropout=1.0, init="he",
                 slice_head=False, encode_batch=0)  # fmt: skip
    assert str(caught.value) == (
        "SliceRNN cannot be built: cell=gruu (gru, lstm, rnn or null); "
        "aggregation=noisy_or (with slice_head=true); "
        "aggregation=noisy_or for 3 classes (a finding is there or not: two classes, or "
        "multilabel=true); dropout=1.0 (from 0 to below 1); init=he (orthogonal or default); "
        "encode_batch=0 (at least 1, or null); change these keys"
    )
    with pytest.raises(MedvisionError, match=r"aggregation=last \(without a cell"):
        SliceRNN(2, 1, encoder=TINY, cell=None, aggregation="last")


@pytest.mark.gpu
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_gradients_in_evaluation_mode_on_a_gpu(cell):
    net = small(cell=cell).cuda()
    image, length, step = (value.cuda() for value in series())
    image.requires_grad_()
    net(image, length, step)["logits"].sum().backward()
    assert image.grad.any()


def test_the_encoder_of_a_net_of_series_is_that_of_its_slices():
    net = small()
    part, width = encoder(net)
    image, _, _ = series()
    assert part is net.encoder
    assert part(image[0]).shape == (image.shape[1], width)


def test_cached_features_are_normalised_as_the_whole_is():
    net = build_net(
        partial(SliceRNN, encoder=partial(ConvNet, widths=[4, 8]), dropout=0.0),
        num_classes=2, in_channels=1, normalise="imagenet",
    ).eval()  # fmt: skip
    image, length, step = series()
    image = image[:, :, :1]
    features = net.encode(image, length)
    assert_equal(net(image, length, step), net.forward_features(features, length, step))

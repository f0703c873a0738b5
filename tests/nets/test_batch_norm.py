from functools import partial

import torch
from torch import nn

from medvision.nets.batch_norm import estimate, find_moving


def test_statistics_are_the_plain_mean_over_the_passes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=0.01), nn.Dropout(0.9))
    moving, norm = find_moving(net), net[1]
    batches = [torch.rand(4, 1, 8, 8) for _ in range(3)]
    net.eval()
    estimate(moving, [partial(net, batch) for batch in batches], lambda value: value)
    features = [net[0](batch) for batch in batches]
    mean = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    spread = torch.stack([f.var((0, 2, 3)) for f in features]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, spread)
    assert (norm.momentum, norm.training) == (0.01, False)
    assert int(norm.num_batches_tracked) == 0  # passes are no steps


def test_a_frozen_body_and_no_passes_leave_them_alone():
    net = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1))
    net[0].eval()
    assert find_moving(net) == [net[1]]
    net.eval()
    estimate([net[1]], [], lambda value: value)
    assert int(net[1].num_batches_tracked) == 0

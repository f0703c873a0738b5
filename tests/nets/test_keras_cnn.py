import pytest
import torch

from medvision.errors import MedvisionError
from medvision.nets.keras_cnn import KerasCNN


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_the_article_counts_its_parameters():
    with torch.device("meta"):
        assert count(KerasCNN(2)) == 44_396_609


def test_more_classes_have_an_output_each():
    with torch.device("meta"):
        assert count(KerasCNN(5)) == 44_396_609 + 4 * 513


def test_two_columns_are_the_sigmoid_of_one_output():
    torch.manual_seed(0)
    net = KerasCNN(2, in_channels=1, size=32)
    logits = net(torch.rand(4, 1, 32, 32))
    assert logits.shape == (4, 2)
    assert not logits[:, 0].any()
    torch.testing.assert_close(logits.softmax(1)[:, 1], logits[:, 1].sigmoid())


@pytest.mark.parametrize("size", [22, 37, (30, 45)])
def test_odd_sizes_and_oblong_ones(size):
    net = KerasCNN(3, in_channels=1, size=size)
    assert net(torch.rand(2, 1, *net.size)).shape == (2, 3)


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    net = KerasCNN(2, in_channels=1, size=24)
    image, label = torch.rand(16, 1, 24, 24), torch.arange(16) % 2
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(image), label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_an_image_of_another_size_is_refused():
    with pytest.raises(MedvisionError, match=r"images of 24x24 pixels but got 24x28; set"):
        KerasCNN(2, in_channels=1, size=24)(torch.rand(1, 1, 24, 28))


def test_images_that_pool_away_are_refused():
    with pytest.raises(MedvisionError, match=r"size=21x224 and 2 classes; .* 22x22 pixels"):
        KerasCNN(2, size=(21, 224))

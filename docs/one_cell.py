"""One cell of the study in one file: to read before the machinery.

    uv run docs/one_cell.py                   He, ReLU, 2 layers, seed 0, on the whole of CIFAR-10
    uv run docs/one_cell.py normal prelu 12 3

It trains what ``cli.py cifar`` trains, from the same random numbers: a test holds weights, losses and
accuracies of the two together.  They agree up to rounding, which training on real images amplifies:
the first epoch of the first command has a mean loss of 13.21 here and 13.19 in figures/data.  All that
is taken from fanin is CIFAR-10 as tensors, and the named streams of random numbers.  Left out is what a
study needs around a cell: other data sets, records that survive an interruption, many processes,
instruments, other laws and protocols.

Glorot & Bengio 2010; He et al. 2015 (arXiv:1502.01852); Ioffe & Szegedy 2015; Kingma & Ba 2015.
"""

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from empirical.data import Dataset, load_dataset
from theory.randomness import generator

FILTERS, POOL_EVERY, CLASSES = 32, 2, 10
EPOCHS, BATCH, LEARNING_RATE = 10, 64, 1e-3
PADDING = 4  # black pixels around an image, from which it is cropped
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
GAIN_SLOPE = 0.01  # the course report's "He" has the gain of a leaky ReLU, whatever the activation


class Epoch(NamedTuple):
    """What is measured: loss in nats per image, accuracy in percent, mean over the tensors' means."""

    train_loss: float
    test_accuracy: float
    average_weight: float


# ------------------------------------------------------------------------------- the network


def build(initializer: str, activation: str, depth: int, seed: int) -> nn.Sequential:
    """``depth`` convolutions of 32 filters and a linear layer, with their weights drawn.

    Batch norm follows each convolution but the first, a 2×2 max-pool every second one after it.
    """
    layers: list[nn.Module] = []
    size = 32
    for index in range(depth):
        layers.append(nn.Conv2d(3 if index == 0 else FILTERS, FILTERS, 3, padding=1))
        if index > 0:
            layers.append(nn.BatchNorm2d(FILTERS))
        layers.append(nn.ReLU() if activation == "relu" else nn.PReLU(init=0.25))
        if index > 0 and index % POOL_EVERY == 0 and size > 1:
            layers.append(nn.MaxPool2d(2))
            size //= 2
    layers += [nn.Flatten(), nn.Linear(FILTERS * size**2, CLASSES)]
    network = nn.Sequential(*layers)
    draw(network, initializer, generator(seed, "weights"))
    return network


@torch.no_grad()
def draw(network: nn.Module, initializer: str, stream: torch.Generator) -> None:
    """Every weight ~ N(0, σ²), its σ by the initializer; every bias by torch's law U(±1/√fan_in)."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            inputs = layer.weight[0].numel()  # fan_in: the weights that lead to one unit
            outputs = (
                len(layer.weight) * layer.weight[0, 0].numel()
            )  # fan_out: to as many one input leads
            layer.weight.normal_(0, deviation(initializer, inputs, outputs), generator=stream)
            assert layer.bias is not None
            layer.bias.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=stream)


def deviation(initializer: str, fan_in: int, fan_out: int) -> float:
    """σ of a weight: He et al. 2015, Eq. 14 and 15; Glorot & Bengio 2010, Eq. 12; or 1.

    >>> round(deviation("he", 27, 288) ** 2 * 288, 3)  # Var[w]·fan_out = 2/(1 + 0.01²)
    2.0
    """
    if initializer == "he":
        return math.sqrt(2 / (1 + GAIN_SLOPE**2)) / math.sqrt(fan_out)
    if initializer == "xavier":
        return math.sqrt(2 / (fan_in + fan_out))
    if initializer == "normal":
        return 1.0
    raise ValueError(f"unknown initializer {initializer!r}: he, xavier or normal")


# ------------------------------------------------------------------------------- the images


def augmented(images: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """Raw images (N, 32, 32, 3), each flipped with probability ½ and cropped from a black frame."""
    count, size = len(images), images.shape[1]
    flips = torch.rand(count, generator=stream) < 0.5
    tops = torch.randint(2 * PADDING + 1, (count,), generator=stream).tolist()
    lefts = torch.randint(2 * PADDING + 1, (count,), generator=stream).tolist()
    images = torch.where(flips[:, None, None, None], images.flip(2), images)
    framed = nn.functional.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
    cropped = [
        image[top : top + size, left : left + size]
        for image, top, left in zip(framed, tops, lefts, strict=True)
    ]
    return torch.stack(cropped)


def normalized(images: torch.Tensor) -> torch.Tensor:
    """Raw images (B, 32, 32, 3) as (B, 3, 32, 32), of mean 0 and variance 1 in each channel."""
    scaled = (images / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2)


# ------------------------------------------------------------------------------- the training


def train(network: nn.Module, data: Dataset, seed: int, epochs: int = EPOCHS) -> Iterator[Epoch]:
    """Adam on the cross-entropy, every image once per epoch in a new order; yields after each epoch."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    count = len(data.train_images)
    for epoch in range(1, epochs + 1):
        order = torch.randperm(count, generator=generator(seed, "shuffle", epoch))
        images = augmented(data.train_images[order], generator(seed, "augment", epoch))
        labels = data.train_labels[order]
        total = 0.0
        network.train()
        for first in range(0, count, BATCH):
            batch = slice(first, first + BATCH)
            loss = nn.functional.cross_entropy(network(normalized(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels[batch])
        yield Epoch(total / count, accuracy(network, data), average_weight(network))


@torch.no_grad()
def accuracy(network: nn.Module, data: Dataset) -> float:
    """Percent of the test images that the network names, with batch norm's running statistics."""
    network.eval()
    batches = zip(data.test_images.split(250), data.test_labels.split(250), strict=True)
    right = sum(int((network(normalized(x)).argmax(1) == y).sum()) for x, y in batches)
    return 100 * right / len(data.test_labels)


def average_weight(network: nn.Module) -> float:
    """The course report's: the mean over all parameter tensors of each tensor's mean."""
    means = [parameter.mean().item() for parameter in network.parameters()]
    return sum(means) / len(means)


if __name__ == "__main__":
    initializer, activation, depth, seed = [*sys.argv[1:], *("he", "relu", 2, 0)[len(sys.argv) - 1 :]]
    network = build(str(initializer), str(activation), int(depth), int(seed))
    data = load_dataset("cifar10", None, torch.device("cpu"))  # from $CIFAR10_DIR, else a download
    for number, epoch in enumerate(train(network, data, int(seed)), start=1):
        print(
            f"epoch {number:2}: training loss {epoch.train_loss:.4f}, test accuracy "
            f"{epoch.test_accuracy:.2f} %, average weight {epoch.average_weight:.4f}"
        )

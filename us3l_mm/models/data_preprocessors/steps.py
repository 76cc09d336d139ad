"""Random operations on a batch, in two parts: draws on the CPU, and operations on the device of the images.

N images (N, 3, H, W), floats in [0, 1], and P numbers for each of them. Draws are the same for every device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Change = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """A random operation.

    Attributes:
        columns (int): P.
        draw (Callable): Makes the numbers (N, P) from N, (H, W) and a generator of the CPU.
        apply (Callable): Makes new images from (N, 3, H, W) and the numbers on their device; may change the old ones.
        size (tuple[int, int], optional): Height and width of the new images, of a crop only.
    """

    columns: int
    draw: Callable[[int, Sequence[int], Generator], Tensor]
    apply: Change
    size: tuple[int, int] | None = None


def in_turn(steps: Sequence[Step]) -> Step:
    """Join steps to one."""
    columns = [step.columns for step in steps]

    def draw(count: int, size: Sequence[int], generator: Generator) -> Tensor:
        numbers = [torch.empty(count, 0)]
        for step in steps:
            numbers.append(step.draw(count, size, generator))
            size = step.size or size
        return torch.cat(numbers, 1)

    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        for step, own in zip(steps, numbers.split(columns, 1)):
            images = step.apply(images, own)
        return images

    return Step(sum(columns), draw, apply)


def sometimes(prob: float, step: Step) -> Step:
    """Apply a step to each image with probability ``prob``; only these images draw."""

    def draw(count: int, size: Sequence[int], generator: Generator) -> Tensor:
        on = torch.rand(count, generator=generator) < prob
        numbers = torch.zeros(count, 1 + step.columns, dtype=torch.float64)
        numbers[:, 0] = on
        numbers[on, 1:] = step.draw(int(on.sum()), size, generator).double()
        return numbers

    return Step(
        1 + step.columns,
        draw,
        lambda images, numbers: on_some(images, numbers[:, 0], numbers[:, 1:], step.apply),
    )


def on_some(images: Tensor, on: Tensor, numbers: Tensor, change: Change) -> Tensor:
    """Change the images for which ``on`` (N,) is not zero, by their numbers (N, P)."""
    return (indexed if images.is_cpu else masked)(images, on, numbers, change)


def masked(images: Tensor, on: Tensor, numbers: Tensor, change: Change) -> Tensor:
    """Change all images and choose: without waiting and of fixed shapes, as a CUDA graph needs."""
    return torch.where(on.bool().view(-1, 1, 1, 1), change(images, numbers), images)


def indexed(images: Tensor, on: Tensor, numbers: Tensor, change: Change) -> Tensor:
    """Change some images in place: less work, where that counts more than launches."""
    index = on.nonzero().squeeze(1)
    images[index] = change(images[index], numbers[index])
    return images

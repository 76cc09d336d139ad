"""What an iteration over several widths passes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class MicroBatch:
    """A micro batch, and what its widths pass on to each other.

    Attributes:
        inputs (Any): Preprocessed images, (N, 3, H, W), or a list of views.
        data_samples (Any): As for the model.
        widest (Any): ``outputs`` of the loss at the widest width; None until that is trained.
        targets (dict[float, list[Tensor]]): Targets of the teacher, by the width it ran at.
    """

    inputs: Any
    data_samples: Any = None
    widest: Any = None
    targets: dict[float, list[Tensor]] = field(default_factory=dict)


@dataclass
class Iteration:
    """An iteration: its number, fraction of training done, widths from the widest, and micro batches."""

    number: int
    progress: float
    widths: list[float]
    micro_batches: list[MicroBatch]


def split_batch(batch: Mapping[str, Any], count: int) -> list[MicroBatch]:
    """Split a preprocessed batch, one tensor or several views, into equal micro batches."""
    inputs, samples = batch['inputs'], batch.get('data_samples')
    if count == 1:
        return [MicroBatch(inputs, samples)]
    views = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    size, rest = divmod(len(views[0]), count)
    if rest:
        raise ValueError(
            f'micro_batches={count} must divide the images of each process, got {len(views[0])}; change batch_size, '
            'and set drop_last=True if this was the last batch of an epoch'
        )
    chunks = zip(*(view.chunk(count) for view in views))
    return [
        MicroBatch(
            inputs=chunk[0] if views[0] is inputs else list(chunk),
            data_samples=None if samples is None else samples[index * size : (index + 1) * size],
        )
        for index, chunk in enumerate(chunks)
    ]

"""Accuracy and cost of one detector at each of several widths."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.dataset import pseudo_collate
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from us3l_mm.models.detectors import SlimmableDetector
from us3l_mm.slim import use_width, width_label

from .width_costs import measure_latency


def evaluate_widths(
    runner: Runner, widths: Sequence[float | Mapping[str, float]], warmup: int = 3, repeats: int = 10
) -> list[dict]:
    """Test a detector at each width.

    Args:
        runner (Runner): With a :class:`SlimmableDetector`, a checkpoint to load that is calibrated for the widths,
            and everything that a test needs.
        widths (Sequence[float | Mapping[str, float]]): Width multipliers, each in (0, 1], or those of parts; see
            :meth:`SlimmableDetector.dense`.
        warmup (int): Passes before the latency is measured.
        repeats (int): Passes that it is the median of.

    Returns:
        list[dict]: One for each width, as given: ``width``, what :func:`detector_costs` returns, and ``metrics`` by
        name.

    Raises:
        TypeError: If the model is no :class:`SlimmableDetector`, or a width no number.
        ValueError: If a width is outside (0, 1].
        RuntimeError: If a width is not calibrated.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, SlimmableDetector):
        raise TypeError(
            f"several widths need a model of type 'us3l_mm.SlimmableDetector', got {type(model).__name__}; networks "
            'of one width each are tested one by one'
        )
    runner.load_or_resume()
    sample = runner.test_loop.dataloader.dataset[0]
    rows = []
    for width in widths:  # before any test: what is not calibrated shall not come to light after hours
        rows.append(dict(width=width, **detector_costs(model.dense(width), sample, warmup, repeats)))
    for row in rows:
        with use_width(model.slimmable_part(), row['width']):
            row['metrics'] = runner.test()
    return rows


def detector_costs(detector: nn.Module, sample: dict, warmup: int = 3, repeats: int = 10) -> dict:
    """Cost of a plain detector for one image.

    Args:
        detector (nn.Module): Detector of mmdet; its latency is measured on the device where it is.
        sample (dict): The image, an item of a test data set.
        warmup (int): See :func:`measure_latency`.
        repeats (int): See :func:`measure_latency`.

    Returns:
        dict: ``size``, height and width of the padded image; ``params``; ``macs``, multiply-accumulate operations
        of the forward pass without post-processing, as mmengine counts them; ``latency_ms`` with percentiles,
        from the decoded image to the boxes.
    """
    detector.eval()
    batch = pseudo_collate([sample])
    data = detector.data_preprocessor(copy.deepcopy(batch), False)
    size = tuple(data['inputs'].shape[-2:])
    forward = detector.forward
    detector.forward = partial(forward, data_samples=data['data_samples'])  # what two-stage detectors need beside it
    try:
        counted = get_model_complexity_info(detector, inputs=(data['inputs'],), show_table=False, show_arch=False)
    finally:
        del detector.forward
    on_gpu = data['inputs'].is_cuda
    latency = measure_latency(
        lambda: detector.test_step(batch),
        warmup,
        repeats,
        **(dict(synchronize=torch.cuda.synchronize) if on_gpu else {}),
    )
    return dict(size=size, params=int(counted['params']), macs=int(counted['flops']), **latency)


def widths_table(rows: Sequence[dict]) -> str:
    """What :func:`evaluate_widths` returned as a Markdown table, metrics as percentages."""
    names = [name for name, value in rows[0]['metrics'].items() if value >= 0]  # COCO: -1 is no such object
    lines = [['width', *(f'{name} (%)' for name in names), 'params (M)', 'GFLOPs', 'latency (ms)']]
    lines.append(['---'] * len(lines[0]))
    for row in rows:
        metrics = [f'{100 * row["metrics"][name]:.1f}' for name in names]
        costs = [f'{row["params"] / 1e6:.2f}', f'{row["macs"] / 1e9:.3f}', f'{row["latency_ms"]:.1f}']
        lines.append([width_label(row['width']), *metrics, *costs])
    text = ['| ' + ' | '.join(line) + ' |' for line in lines]
    size = ' x '.join(map(str, rows[0]['size']))
    return '\n'.join([*text, '', f'GFLOPs (multiply-adds) and latency for one image of {size} pixels.'])

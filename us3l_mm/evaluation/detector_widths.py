"""Test a slimmable detector at several widths, and count and measure its costs."""

import copy
from collections.abc import Sequence

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from us3l_mm.deploy.costs import detector_costs, measure_latency
from us3l_mm.models.detectors import SlimmableDetector
from us3l_mm.slim import Width, check_count, check_width, check_widths, use_width, width_label
from us3l_mm.utils.tables import image_text, markdown_table


def evaluate_widths(runner: Runner, widths: Sequence[Width], warmup: int = 3, repeats: int = 10) -> list[dict]:
    """Test a slimmable detector at each width.

    Args:
        runner (Runner): Runner of a test, with a :class:`SlimmableDetector` and a checkpoint that is calibrated for
            the widths.
        widths (Sequence[Width]): Widths, each in (0, 1], or widths of parts; see :meth:`SlimmableDetector.dense`.
        warmup (int): Passes before the measured ones. Defaults to 3.
        repeats (int): Passes whose latency is measured. Defaults to 10.

    Returns:
        list[dict]: For each width in the given order, ``width``, the keys of :func:`detector_costs` and
        :func:`measure_latency`, and ``metrics`` by name.

    Raises:
        TypeError: If the model is no :class:`SlimmableDetector`, or a width is no number.
        ValueError: If a width is outside (0, 1], or there is none, or one twice.
        RuntimeError: If a width is not calibrated.
    """
    widths = check_widths('widths', widths, check_width)
    check_count('warmup', warmup, least=0)
    check_count('repeats', repeats)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, SlimmableDetector):
        raise TypeError(
            f"several widths need a model of type 'us3l_mm.SlimmableDetector', got {type(model).__name__}; test it "
            'without --widths'
        )
    runner.load_or_resume()
    batch = pseudo_collate([runner.test_loop.dataloader.dataset[0]])
    size = tuple(model.data_preprocessor(copy.deepcopy(batch), False)['inputs'].shape[-2:])  # of the padded image
    rows = []
    for width in widths:  # before the first test, so that an uncalibrated width fails at once, not after hours
        plain = model.dense(width).eval()
        rows.append(dict(width=width, **detector_costs(plain, size), **_latency(plain, batch, warmup, repeats)))
    for row in rows:
        with use_width(model.slimmable_part(), row['width']):
            row['metrics'] = runner.test()
    return rows


def _latency(detector: nn.Module, batch: dict, warmup: int, repeats: int) -> dict[str, float]:
    """Measure the latency from the decoded image to the boxes, on the device of the detector."""
    on_gpu = next(detector.parameters()).is_cuda
    wait = dict(synchronize=torch.cuda.synchronize) if on_gpu else {}
    return measure_latency(lambda: detector.test_step(batch), warmup, repeats, **wait)


def widths_table(rows: Sequence[dict]) -> str:
    """Format the rows of :func:`evaluate_widths` as a Markdown table, with metrics in percent."""
    names = [name for name, value in rows[0]['metrics'].items() if value >= 0]  # COCO's -1: no object of that size
    header = ['width', *(f'{name} (%)' for name in names), 'params (M)', 'MACs (G)', 'latency (ms)']
    lines = [
        [
            width_label(row['width']),
            *(f'{100 * row["metrics"][name]:.1f}' for name in names),
            f'{row["params"] / 1e6:.2f}',
            f'{row["macs"] / 1e9:.3f}',
            f'{row["latency_ms"]:.1f}',
        ]
        for row in rows
    ]
    size = image_text(rows[0]['size'])
    return f'{markdown_table(header, lines)}\n\nMACs and latency are for one image of {size} pixels.'

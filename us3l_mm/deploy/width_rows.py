"""Count and measure the costs of a model at several widths."""

import argparse
import warnings

import torch
from mmengine.logging import MMLogger

from us3l_mm.utils.tables import image_text

from .costs import net_latency, plain_costs
from .plain_model import Inference, image_size, list_widths, plain_model


def width_rows(args: argparse.Namespace, checkpoint: str | None = None, latency: bool = True) -> tuple[list[dict], str]:
    """Count the costs of a model at several widths, and measure its latency.

    Args:
        args (argparse.Namespace): Options of :func:`us3l_mm.utils.arguments.add_measuring`, ``config``, ``widths`` and
            ``cfg_options``. With ``widths=None``, all widths that the checkpoint is calibrated for.
        checkpoint (str, optional): Checkpoint of the model. Defaults to None: random weights.
        latency (bool): Whether to measure the latency. Defaults to True.

    Returns:
        tuple[list[dict], str]: A row for each width, from the widest: ``width`` and the keys of :func:`plain_costs` and
        :func:`net_latency`. Then the setting in words: part of the model, shape of the images, device, threads.

    Raises:
        ValueError: If the model cannot have a width; see :func:`plain_model` and :func:`list_widths`.
        RuntimeError: If the checkpoint is not calibrated for a width.
    """
    MMLogger.get_instance('us3l_mm', log_level='ERROR')  # without a message for each width that is loaded and counted
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if not args.widths and checkpoint is None:
            raise ValueError('without a checkpoint, of which the calibrated widths are taken, give --widths')
        widths = args.widths or list_widths(args.config, checkpoint, args.cfg_options)
        for width in sorted(set(widths), reverse=True):
            plain = plain_model(args.config, checkpoint, width, args.cfg_options)
            net, size = Inference(plain), image_size(args.input, plain)
            rows.append(dict(width=width, **plain_costs(net, size, args.batch)))
            if latency:
                rows[-1].update(net_latency(net, size, args.batch, args.device, args.warmup, args.repeats))
    images = f'{args.batch} x 3 x {image_text(size)}'
    return rows, f'{plain.part}, {images}, {args.device}, {torch.get_num_threads()} thread(s)'

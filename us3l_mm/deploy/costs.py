"""What a plain network costs: parameters, operations, memory and time."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import finalize

import numpy as np
import torch
from mmengine.analysis import get_model_complexity_info
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from us3l_mm.slim import Width, meta_copy, to_dense


class _LiveBytes(TorchDispatchMode):
    """Counts the memory of tensors that are alive, each storage once; those of ``net`` and their views not."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.own = {tensor.untyped_storage()._cdata for tensor in (*net.parameters(), *net.buffers())}
        self.live = self.peak = 0
        self.users: Counter[int] = Counter()

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.own:
            return
        if not self.users[key]:
            self.live += size
            self.peak = max(self.peak, self.live)
        self.users[key] += 1
        finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.users[key] -= 1
        if not self.users[key]:
            self.live -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        known = {id(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in known:
                self.add(tensor)
        return result


@torch.no_grad()
def activation_memory(net: nn.Module, size: tuple[int, int], batch: int = 1) -> int:
    """Most bytes of images and activations alive at once in inference, without weights and workspace of kernels.

    Runs on the meta device, so that nothing is allocated and the number depends on no machine.

    Args:
        net (nn.Module): Plain network.
        size (tuple[int, int]): Height and width of the images.
        batch (int): Images at a time. Defaults to 1.
    """
    ghost = meta_copy(net).eval()
    images = torch.empty(batch, 3, *size, device='meta')
    with _LiveBytes(ghost) as memory:
        memory.add(images)
        ghost(images)
    return memory.peak


def measure_latency(
    run: Callable[[], object],
    warmup: int = 10,
    repeats: int = 50,
    synchronize: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time of one call.

    Args:
        run (Callable): What is measured.
        warmup (int): Calls before, which are not counted.
        repeats (int): Calls that are.
        synchronize (Callable): Waits until ``run`` is really done: ``torch.cuda.synchronize`` on a GPU.
        clock (Callable): Time in seconds.

    Returns:
        dict[str, float]: ``latency_ms``, the median; ``latency_p10_ms`` and ``latency_p90_ms``, between which
        eight of ten calls lie.

    Raises:
        ValueError: If there is nothing to measure.
    """
    if warmup < 0 or repeats < 1:
        raise ValueError(f'needs warmup >= 0 and repeats >= 1, got {warmup} and {repeats}')
    for _ in range(warmup):
        run()
    synchronize()
    seconds = []
    for _ in range(repeats):
        start = clock()
        run()
        synchronize()
        seconds.append(clock() - start)
    low, median, high = (1e3 * float(value) for value in np.percentile(seconds, (10, 50, 90)))
    return dict(latency_ms=median, latency_p10_ms=low, latency_p90_ms=high)


def count(net: nn.Module, images: Tensor) -> dict[str, int]:
    """Parameters and multiply-accumulate operations (MACs), as mmengine's ``get_model_complexity_info`` counts them.

    MACs of fused attention, between queries, keys and values, are not among them.

    Args:
        net (nn.Module): Plain network in evaluation mode.
        images (Tensor): What it is run on, (N, C, H, W); MACs are those of all N.

    Returns:
        dict[str, int]: ``params`` and ``macs``.
    """
    counted = get_model_complexity_info(net, inputs=(images,), show_table=False, show_arch=False)
    return dict(params=int(counted['params']), macs=int(counted['flops']))


def width_complexity(module: nn.Module, width: Width, input_size: int) -> dict[str, Any]:
    """:func:`count` for one square image of the plain network that a slimmable backbone is at ``width``.

    Args:
        module (nn.Module): Slimmable backbone.
        width (Width): As for :func:`us3l_mm.slim.use_width`.
        input_size (int): Height and width of the image, in pixels.

    Returns:
        dict[str, Any]: ``width``, ``params`` and ``macs``.
    """
    dense = to_dense(module, width, with_statistics=False).eval()
    return dict(width=width, **count(dense, torch.rand(1, 3, input_size, input_size)))


def plain_costs(net: nn.Module, size: tuple[int, int], batch: int = 1) -> dict[str, int]:
    """Costs of a plain network that need no measurement.

    Args:
        net (nn.Module): Plain network in evaluation mode.
        size (tuple[int, int]): Height and width of the images.
        batch (int): Images at a time, for ``activation_bytes``. Defaults to 1.

    Returns:
        dict[str, int]: ``params``; ``macs`` of one image; ``activation_bytes``, see :func:`activation_memory`.
    """
    return dict(count(net, torch.rand(1, 3, *size)), activation_bytes=activation_memory(net, size, batch))


class _PerImage(nn.Module):
    """What a detector runs once an image: backbone, neck and dense head."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        head = getattr(self.detector, 'rpn_head', None) or self.detector.bbox_head
        return head(self.detector.extract_feat(images))


class _PerRegion(nn.Module):
    """What a two-stage detector runs on each region for its boxes."""

    def __init__(self, roi_head: nn.Module) -> None:
        super().__init__()
        self.roi_head = roi_head

    def forward(self, regions: Tensor) -> Any:
        shared = self.roi_head.shared_head(regions) if self.roi_head.with_shared_head else regions
        return self.roi_head.bbox_head(shared)


@torch.no_grad()
def detector_costs(detector: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """Parameters and MACs of a plain detector for one image.

    MACs are those of all that runs once an image and, in two-stage detectors, of the box head on as many regions as
    are tested (``test_cfg.rpn.max_per_img``); masks of the boxes that remain are not among them.

    Args:
        detector (nn.Module): Detector of mmdet.
        size (tuple[int, int]): Height and width of the image.

    Returns:
        dict[str, Any]: ``size``, ``params`` and ``macs``.
    """
    detector.eval()
    weight = next(detector.parameters())
    macs = count(_PerImage(detector), weight.new_zeros(1, 3, *size))['macs']
    if hasattr(detector, 'roi_head'):
        extractor = detector.roi_head.bbox_roi_extractor
        regions = weight.new_zeros(1, extractor.out_channels, *extractor.roi_layers[0].output_size)
        macs += detector.test_cfg.rpn.max_per_img * count(_PerRegion(detector.roi_head), regions)['macs']
    return dict(size=size, params=sum(parameter.numel() for parameter in detector.parameters()), macs=macs)


@torch.no_grad()
def net_latency(
    net: nn.Module, size: tuple[int, int], batch: int = 1, device: str = 'cpu', warmup: int = 10, repeats: int = 50
) -> dict[str, float]:
    """Latency of a batch on a device; see :func:`measure_latency`.

    Args:
        net (nn.Module): Network; it is moved to the device.
        size (tuple[int, int]): Height and width of the images.
        batch (int): Images at a time.
        device (str): ``'cpu'`` or ``'cuda'``.
        warmup (int): Calls that are not counted.
        repeats (int): Calls that are.
    """
    net = net.to(device).eval()
    images = torch.randn(batch, 3, *size, device=device)
    on_gpu = torch.device(device).type == 'cuda'
    wait = {'synchronize': torch.cuda.synchronize} if on_gpu else {}
    return measure_latency(lambda: net(images), warmup, repeats, **wait)

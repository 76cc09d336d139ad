"""Costs of a dense network: parameters, operations, memory and time."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import finalize

import numpy as np
import torch
from mmengine.analysis import FlopAnalyzer, parameter_count
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from us3l_mm.slim import Width, check_count, meta_copy, to_dense


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of live tensors, each storage once and those of ``net`` not at all."""

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
        known = {id(tensor) for tensor in tree_flatten((args, kwargs))[0] if isinstance(tensor, Tensor)}
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and id(tensor) not in known:
                self.add(tensor)
        return result


@torch.no_grad()
def activation_memory(net: nn.Module, size: tuple[int, int], batch: int = 1) -> int:
    """Count the peak memory of images and activations in inference, without weights and kernel workspace.

    Runs on the meta device: nothing is allocated, and the number is the same on every machine.

    Args:
        net (nn.Module): Dense network.
        size (tuple[int, int]): Height and width of the images, in pixels.
        batch (int): Images at a time. Defaults to 1.

    Returns:
        int: Bytes.
    """
    check_count('batch', batch)
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
    """Measure the time of a call.

    Args:
        run (Callable): Call to measure.
        warmup (int): Calls before the measured ones. Defaults to 10.
        repeats (int): Measured calls. Defaults to 50.
        synchronize (Callable): Waits until ``run`` is done: ``torch.cuda.synchronize`` on a GPU. Defaults to no wait.
        clock (Callable): Gives the time in seconds. Defaults to :func:`time.perf_counter`.

    Returns:
        dict[str, float]: In milliseconds, the median ``latency_ms`` and the percentiles ``latency_p10_ms`` and
        ``latency_p90_ms``.

    Raises:
        TypeError: If a number is not whole.
        ValueError: If ``warmup`` is negative or ``repeats`` below one.
    """
    check_count('warmup', warmup, least=0)
    check_count('repeats', repeats)
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
    """Count parameters and multiply-accumulate operations (MACs) with mmengine's ``FlopAnalyzer``.

    It leaves out the products of queries, keys and values in fused attention.

    Args:
        net (nn.Module): Dense network in evaluation mode.
        images (Tensor): Input, (N, C, H, W).

    Returns:
        dict[str, int]: ``params``, and ``macs`` of all N images.
    """
    analyzer = FlopAnalyzer(net, (images,))
    analyzer.unsupported_ops_warnings(False)  # of sums and norms, with each count; they are not products
    return dict(params=parameter_count(net)[''], macs=int(analyzer.total()))


def width_complexity(module: nn.Module, width: Width, size: tuple[int, int]) -> dict[str, Any]:
    """Count parameters and MACs of a slimmable backbone at one width, for one image.

    Args:
        module (nn.Module): Slimmable backbone.
        width (Width): As for :func:`us3l_mm.slim.use_width`.
        size (tuple[int, int]): Height and width of the image, in pixels.

    Returns:
        dict[str, Any]: ``width``, ``size``, ``params`` and ``macs``; see :func:`count`.
    """
    dense = to_dense(module, width, with_statistics=False).eval()
    return dict(width=width, size=size, **count(dense, _one_image(dense, size)))


def plain_costs(net: nn.Module, size: tuple[int, int], batch: int = 1) -> dict[str, Any]:
    """Count the costs of a dense network that need no measurement.

    Args:
        net (nn.Module): Dense network in evaluation mode.
        size (tuple[int, int]): Height and width of the images, in pixels.
        batch (int): Images at a time, for ``activation_bytes``. Defaults to 1.

    Returns:
        dict[str, Any]: ``size``, ``params``, ``macs`` of one image, and ``activation_bytes``, see
        :func:`activation_memory`.
    """
    return dict(size=size, **count(net, _one_image(net, size)), activation_bytes=activation_memory(net, size, batch))


def _one_image(net: nn.Module, size: tuple[int, int]) -> Tensor:
    """An image on the device of a network, of its type."""
    return next(net.parameters()).new_zeros(1, 3, *size)


class _PerImage(nn.Module):
    """The part of a detector that runs once an image: backbone, neck and dense head."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        head = self.detector.rpn_head if hasattr(self.detector, 'rpn_head') else self.detector.bbox_head
        return head(self.detector.extract_feat(images))


class _PerRegion(nn.Module):
    """The part of a two-stage detector that runs once a region: shared head and box head, or those of all stages."""

    def __init__(self, roi_head: nn.Module) -> None:
        super().__init__()
        self.roi_head = roi_head

    def forward(self, regions: Tensor) -> Any:
        shared = self.roi_head.shared_head(regions) if self.roi_head.with_shared_head else regions
        return [head(shared) for head in _stages(self.roi_head.bbox_head)]


def _stages(part: nn.Module) -> list[nn.Module]:
    """A part of an RoI head, or those of all stages of a cascade."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


@torch.no_grad()
def detector_costs(detector: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """Count parameters and MACs of a dense detector for one image.

    In two-stage detectors the box head counts once for each tested region (``test_cfg.rpn.max_per_img``). Mask heads
    are left out.

    Args:
        detector (nn.Module): Detector of mmdet.
        size (tuple[int, int]): Height and width of the image, in pixels.

    Returns:
        dict[str, Any]: ``size``, ``params`` and ``macs``.
    """
    detector.eval()
    image = _one_image(detector, size)
    macs = count(_PerImage(detector), image)['macs']
    if hasattr(detector, 'roi_head'):
        extractor = _stages(detector.roi_head.bbox_roi_extractor)[0]
        regions = image.new_zeros(1, extractor.out_channels, *extractor.roi_layers[0].output_size)
        macs += detector.test_cfg.rpn.max_per_img * count(_PerRegion(detector.roi_head), regions)['macs']
    return dict(size=size, params=sum(parameter.numel() for parameter in detector.parameters()), macs=macs)


@torch.no_grad()
def net_latency(
    net: nn.Module, size: tuple[int, int], batch: int = 1, device: str = 'cpu', warmup: int = 10, repeats: int = 50
) -> dict[str, float]:
    """Measure the latency of a batch on a device.

    Args:
        net (nn.Module): Network; it is moved to the device.
        size (tuple[int, int]): Height and width of the images, in pixels.
        batch (int): Images at a time. Defaults to 1.
        device (str): ``'cpu'`` or ``'cuda'``. Defaults to ``'cpu'``.
        warmup (int): Calls before the measured ones. Defaults to 10.
        repeats (int): Measured calls. Defaults to 50.

    Returns:
        dict[str, float]: See :func:`measure_latency`.
    """
    net = net.to(device).eval()
    images = torch.randn(batch, 3, *size, device=device)
    on_gpu = torch.device(device).type == 'cuda'
    wait = {'synchronize': torch.cuda.synchronize} if on_gpu else {}
    return measure_latency(lambda: net(images), warmup, repeats, **wait)

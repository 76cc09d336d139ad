"""What a network at several widths makes of one image: its neighbours, its class, its milliseconds.

Shapes: N labelled images, C channels.
"""

import io
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.model import BaseDataPreprocessor
from PIL import Image
from torch import nn
from torch.utils.data import Subset

from us3l_mm.deploy.costs import measure_latency, width_complexity
from us3l_mm.evaluation import extract_features, knn_accuracy, nearest_neighbours, pooled_features, vote
from us3l_mm.slim import to_dense

_WARMUP, _REPEATS = 2, 5  # passes over an image before and while its time is measured


class Player:
    """Answers of a slimmable network at several widths.

    The labelled images vote for the class of another one, each with the weight of :func:`us3l_mm.evaluation.vote`.

    Args:
        backbone (nn.Module): Slimmable backbone, calibrated for the widths.
        widths (Sequence[float]): Widths.
        preprocessor (BaseDataPreprocessor): Turns images into tensors.
        labelled (Subset): Labelled images to compare with, of a data set with a pipeline for tests.
        samples (Subset): Images to try, likewise.
        batches (Callable): Makes the batches of a data set, in its order.
        neighbours (int): Neighbours that are shown and vote. Defaults to 8.
        device (str): Device of the network. Defaults to ``'cpu'``.

    Raises:
        RuntimeError: If a width is not calibrated.
        ValueError: If there are fewer labelled images than neighbours.
    """

    def __init__(
        self,
        backbone: nn.Module,
        widths: Sequence[float],
        preprocessor: BaseDataPreprocessor,
        labelled: Subset,
        samples: Subset,
        batches: Callable[[Subset], Iterable[dict]],
        neighbours: int = 8,
        device: str = 'cpu',
    ) -> None:
        self.backbone, self.preprocessor = backbone.to(device).eval(), preprocessor.to(device)
        self.images = dict(labelled=labelled, samples=samples)
        self.neighbours, self._lock = neighbours, threading.Lock()
        self.classes = [str(name) for name in labelled.dataset.metainfo.get('classes') or ()]
        steps = labelled.dataset.pipeline.transforms
        self._steps = [step for step in steps if not isinstance(step, mmcv.transforms.LoadImageFromFile)]
        widths = sorted(widths, reverse=True)
        self.features, self.labels = extract_features(backbone, widths, batches(labelled), preprocessor)
        tested, self.truth = extract_features(backbone, widths, batches(samples), preprocessor)
        self._dense = {width: to_dense(backbone, width).eval() for width in widths}
        size = tuple(labelled[0]['inputs'].shape[-2:])
        self.rows = [
            dict(
                width_complexity(self.backbone, width, size),
                accuracy=knn_accuracy(self.features[width], self.labels, tested[width], self.truth, neighbours),
            )
            for width in widths
        ]

    def name(self, label: int) -> str:
        """Name of a class."""
        return self.classes[label] if label < len(self.classes) else f'label {label}'

    def sample(self, index: int, width: float) -> dict[str, Any]:
        """Look at one of the samples; see :meth:`look`, with its class as ``truth``."""
        return dict(self.look(self.images['samples'][index], width), truth=self.name(int(self.truth[index])))

    def upload(self, pixels: np.ndarray, width: float) -> dict[str, Any]:
        """Look at another image, BGR of shape (H, W, 3); see :meth:`look`."""
        if not self._swaps:
            pixels = pixels[..., ::-1].copy()
        shape = pixels.shape[:2]
        results: dict = dict(img=pixels, img_shape=shape, ori_shape=shape, gt_label=0)
        for step in self._steps:
            results = step(results)
        return self.look(results, width)

    @torch.no_grad()
    def look(self, packed: dict[str, Any], width: float) -> dict[str, Any]:
        """Run the network at a width on an image that has passed the pipeline.

        Returns:
            dict[str, Any]: ``width``; ``ms``, the median time of the dense network of this width for this image;
            ``name`` of the class that the neighbours vote for; ``neighbours``, each with ``image``, its place among the
            labelled ones, ``name`` and cosine ``similarity``.
        """
        images = self.preprocessor(default_collate([packed]), False)['inputs']
        wait = {'synchronize': torch.cuda.synchronize} if images.is_cuda else {}
        with self._lock:  # one pass at a time: it is measured
            features = pooled_features(self.backbone, [width], images)[width].float().cpu()
            net = self._dense[width]
            time = measure_latency(lambda: net(images), _WARMUP, _REPEATS, **wait)
        similarity, index = nearest_neighbours(self.features[width], features, self.neighbours)
        labels = self.labels[index]
        found = zip(index[0].tolist(), labels[0].tolist(), similarity[0].tolist())
        return dict(
            width=width,
            ms=time['latency_ms'],
            name=self.name(int(vote(similarity, labels))),
            neighbours=[dict(image=i, name=self.name(label), similarity=cos) for i, label, cos in found],
        )

    def picture(self, split: str, index: int) -> bytes:
        """Make a PNG of an image of a split, ``'labelled'`` or ``'samples'``, as the network gets it."""
        pixels = self.images[split][index]['inputs']  # (3, H, W)
        pixels = pixels.flip(0) if self._swaps else pixels
        out = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).to(torch.uint8).numpy()).save(out, 'png')
        return out.getvalue()

    @property
    def _swaps(self) -> bool:
        """Whether images are BGR before they reach the preprocessor."""
        return bool(getattr(self.preprocessor, 'to_rgb', False))

"""Box and mask AP of COCO, with labels by the names of the classes."""

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path

from us3l_mm.datasets.coco_file import NamedCOCO
from us3l_mm.registry import METRICS


@METRICS.register_module()
class CustomCOCOMetric(CocoMetric):
    """mmdet's ``CocoMetric`` for predictions of :class:`us3l_mm.datasets.custom_coco.CustomCOCO`.

    Label ``i`` of a prediction is the category of the name ``classes[i]`` of the data set, in whatever order the
    annotation file lists it, and results by class stand under the right name.

    Args:
        **kwargs: As for :class:`mmdet.evaluation.CocoMetric`; ``ann_file`` is needed.

    Raises:
        ValueError: If the file is not sound, or has no category of a class's name.
    """

    def __init__(self, **kwargs) -> None:
        ann_file = kwargs.pop('ann_file')  # mmdet's own index of it would not be ours
        super().__init__(**kwargs)
        with get_local_path(ann_file, backend_args=self.backend_args) as local_path:
            self._coco_api = NamedCOCO(local_path)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of the processed results; see :class:`mmdet.evaluation.CocoMetric`."""
        identifiers = self._coco_api.get_cat_ids(self.dataset_meta['classes'])
        # pycocotools sorts them, and mmdet takes its results by class in the order of `cat_ids`.
        self.cat_ids = sorted(identifiers)
        position = np.argsort(np.argsort(identifiers))
        results = [(truth, {**found, 'labels': position[found['labels']]}) for truth, found in results]
        return super().compute_metrics(results)

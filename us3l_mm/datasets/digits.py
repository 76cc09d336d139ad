"""1,797 handwritten digits that come with scikit-learn."""

import numpy as np
from mmengine.dataset import BaseDataset

from us3l_mm.registry import DATASETS
from us3l_mm.slim import check_choice, check_count


@DATASETS.register_module()
class Digits(BaseDataset):
    """Real handwritten digits of 8 x 8 pixels, 0 to 9, that need no download.

    A fixed fifth of each class is the test split. Images are uint8 arrays of shape (8, 8, 3).

    Args:
        split (str): ``'train'`` (1,442 images) or ``'test'`` (355).
        per_class (int, optional): Keep only so many images of each class. Defaults to None: all.
        **kwargs: As for :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If ``split`` is none of these, or a class has fewer than ``per_class`` images.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    METAINFO = {'classes': tuple('0123456789'), 'dataset_type': 'digits'}

    def __init__(self, split: str = 'train', per_class: int | None = None, **kwargs) -> None:
        self.split = check_choice('split', split, ('train', 'test'))
        self.per_class = None if per_class is None else check_count('per_class', per_class)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their labels, in a fixed order."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError('the digits come with scikit-learn: pip install scikit-learn') from error
        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        kept = []
        for digit in range(10):
            # Neighbours in the file were written by one person: shuffle before splitting.
            index = np.random.RandomState(digit).permutation(np.flatnonzero(bunch.target == digit))
            cut = len(index) // 5
            index = index[:cut] if self.split == 'test' else index[cut:]
            if self.per_class is not None and self.per_class > len(index):
                raise ValueError(f'per_class must be in [1, {len(index)}] for digit {digit}, got {self.per_class}')
            kept.extend(index[: self.per_class])
        return [
            dict(img=np.repeat(images[i][..., None], 3, axis=2), gt_label=int(bunch.target[i]), digit_idx=int(i))
            for i in sorted(kept)
        ]

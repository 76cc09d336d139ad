"""Maps of features in two dimensions."""

import numpy as np
from torch import Tensor

_SEED = 0


def embed(features: Tensor, method: str) -> np.ndarray:
    """Map features into the plane, such that images that are alike lie together; the same input gives the same map.

    Args:
        features (Tensor): Features (N, C) of N images, 4 at least.
        method (str): ``'tsne'``, scikit-learn's, or ``'umap'``, umap-learn's.

    Returns:
        np.ndarray: Points (N, 2).

    Raises:
        ImportError: If the package that has the method is not installed.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; McInnes et al., "UMAP", 2018.
    """
    values = features.numpy()
    if method == 'tsne':
        try:
            from sklearn.manifold import TSNE
        except ImportError as error:
            raise ImportError('t-SNE needs scikit-learn: pip install scikit-learn') from error
        return TSNE(init='pca', perplexity=min(30, (len(values) - 1) / 3), random_state=_SEED).fit_transform(values)
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError('--method umap needs umap-learn: pip install umap-learn; or take --method tsne') from error
    return UMAP(n_neighbors=min(15, len(values) - 1), random_state=_SEED).fit_transform(values)

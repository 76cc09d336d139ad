"""Test a model on several variants of each image, by one option."""

import copy

from mmengine.config import Config, ConfigDict

from .find import find_class, find_dicts, is_detector

# What packed images must tell, so that boxes can be turned back.
_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')


def set_tta(cfg: Config) -> Config:
    """Wrap the model for test-time augmentation, as the test scripts of mmdet and mmpretrain do.

    ``tta_model`` and ``tta_pipeline`` of the config say how. Without them each image is tested as it is and mirrored:
    a classifier averages its scores, a detector merges its boxes by NMS.

    Args:
        cfg (Config): Config to test, as :func:`load_config` returns it; changed in place.

    Returns:
        Config: ``cfg``.

    Raises:
        ValueError: If the model predicts at several widths.
    """
    detector, kind = is_detector(cfg), find_class(cfg.model.type, cfg.get('default_scope'))
    if not detector and hasattr(kind, 'dense'):
        raise ValueError(
            f'test-time augmentation merges the predictions of one width, {cfg.model.type} makes those of several; '
            'export one of them by `us3l export`'
        )
    if 'tta_model' not in cfg:
        nms = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
        cfg.tta_model = (
            dict(type='DetTTAModel', tta_cfg=nms) if detector else dict(type='mmpretrain.AverageClsScoreTTA')
        )
    for dataset in find_dicts(cfg.test_dataloader.dataset):
        if 'pipeline' in dataset:
            dataset.pipeline = copy.deepcopy(cfg.get('tta_pipeline') or _mirrored(dataset.pipeline, detector))
    wrapper = copy.deepcopy(cfg.tta_model)
    wrapper.module = cfg.model
    cfg.model = wrapper
    cfg.pop('data_preprocessor', None)  # the model has it, see read_config; a Runner would give it to the wrapper
    return cfg


def _mirrored(pipeline: list[ConfigDict], detector: bool) -> list[dict]:
    """Make each image twice, mirrored and as it is."""
    *steps, pack = copy.deepcopy(pipeline)
    if detector:
        pack.meta_keys = tuple(dict.fromkeys([*pack.get('meta_keys', ()), *_META]))
    flips = [dict(type='mmdet.RandomFlip' if detector else 'RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    return [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]

"""Our configs by their names, in mmengine and mmpretrain."""

import mmengine.hub
import mmpretrain
import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import DefaultScope

from builders import ROOT

MODELS = {
    model['Name']: model for part in load(ROOT / 'model-index.yml')['Import'] for model in load(ROOT / part)['Models']
}
DIGITS = 'digits/r18_1xb64-16e_digits'


def test_base_by_name_is_the_base_by_path():
    """Types of mmpretrain and mmdet, which have no prefix there, are not taken for ours."""
    for name in (DIGITS, 'det/mask-rcnn_r50_fpn_1x_coco'):
        by_name = Config.fromstring(f"_base_ = 'us3l_mm::{name}.py'\nmodel = dict(a=_base_.model.type)", '.py')
        by_path = Config.fromstring(f"_base_ = '{ROOT}/configs/{name}.py'\nmodel = dict(a=_base_.model.type)", '.py')
        assert by_name.to_dict() == by_path.to_dict()


def test_bases_of_others_keep_their_scope():
    cfg = Config.fromstring("_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'\nsame = _base_.model", '.py')
    assert cfg.same['_scope_'] == 'mmdet'


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        (DIGITS, 'us3l_mm.models.algorithms.us3l.US3L'),
        ('digits/r18_1xb128-20e_digits', 'us3l_mm.models.classifiers.linear_probe.LinearProbe'),
        ('digits/retinanet_r18-fpn_1xb4-10e_digits', 'mmdet.models.detectors.retinanet.RetinaNet'),
    ],
)
def test_hub_builds_a_model_in_the_scope_of_its_config(name, kind, no_random_weights):
    model = mmengine.hub.get_model(f'us3l_mm::{name}.py')
    assert f'{type(model).__module__}.{type(model).__name__}' == kind
    assert DefaultScope.get_current_instance() is None


def test_hub_reads_a_config():
    cfg = mmengine.hub.get_config(f'us3l_mm::{DIGITS}.py')
    assert cfg.model.pop('_scope_') == 'mmpretrain'
    assert cfg.to_dict() == Config.fromfile(ROOT / f'configs/{DIGITS}.py').to_dict()
    assert '_scope_' not in mmengine.hub.get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model


def test_mmpretrain_lists_and_builds_our_models(no_random_weights):
    ours = mmpretrain.list_models('us3l_mm*')
    assert ours == sorted(name for name in MODELS if MODELS[name]['In Collection'] != 'Detection') and len(ours) > 50
    assert mmpretrain.list_models('*us3l*') == ours
    assert set(mmpretrain.list_models()) > {*ours, 'resnet50_8xb32_in1k'}
    model = mmpretrain.get_model('us3l_mm_r18_1xb64-16e_digits')
    assert type(model).__name__ == 'US3L' and model._metainfo.config.filename.endswith(f'.mim/configs/{DIGITS}.py')

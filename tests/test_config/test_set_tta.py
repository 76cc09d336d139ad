"""Test-time augmentation is set up as the test scripts of mmdet and mmpretrain set it up."""

import runpy
import sys

import mmdet
import mmpretrain
import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner

from us3l_mm.config import set_tta
from us3l_mm.registry import MODELS, find_class

CONFIGS = {mmdet: 'retinanet/retinanet_r50_fpn_1x_coco', mmpretrain: 'resnet/resnet18_8xb16_cifar10'}
OWN = dict(
    tta_model=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.7), max_per_img=3)),
    tta_pipeline=[dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[[dict(type='Resize')]])],
)


class CfgSeen(Exception):
    pass


@pytest.fixture
def stock(monkeypatch):
    """What the library's own script builds its Runner from."""

    def run(library, path):
        def stop(cfg):
            raise CfgSeen(cfg)

        monkeypatch.setattr(Runner, 'from_cfg', stop)
        script = f'{library.__path__[0]}/.mim/tools/test.py'
        monkeypatch.setattr(sys, 'argv', [script, str(path), 'x.pth', '--tta'])
        with pytest.raises(CfgSeen) as seen:
            runpy.run_path(script, run_name='__main__')
        return seen.value.args[0]

    return run


def classes(node, scope, registry):
    """A part of a config with each type replaced by its class."""
    if isinstance(node, dict):
        found = {key: classes(value, scope, registry) for key, value in node.items()}
        return found | ({'type': find_class(node['type'], scope, registry)} if 'type' in node else {})
    return [classes(child, scope, registry) for child in node] if isinstance(node, (list, tuple)) else node


@pytest.mark.filterwarnings('ignore:Cannot find ``tta_:UserWarning')
@pytest.mark.parametrize('library', CONFIGS, ids=lambda library: library.__name__)
def test_without_entries_it_is_the_default_of_the_library(library, stock, tmp_path):
    path = f'{library.__path__[0]}/.mim/configs/{CONFIGS[library]}.py'
    theirs, scope = stock(library, path), library.__name__
    ours = set_tta(Config.fromfile(path))
    for part, registry in (('model', MODELS), ('test_dataloader', TRANSFORMS)):
        a, b = (cfg[part].to_dict() for cfg in (ours, theirs))
        if part == 'model':
            assert a.pop('module') == b.pop('module')
            assert classes(a, scope, registry) == classes(b, scope, registry)
        else:
            a, b = a['dataset']['pipeline'], b['dataset']['pipeline']
            assert [classes(step, scope, registry) for step in a] == [classes(step, scope, registry) for step in b]


def test_entries_of_the_config_are_used():
    cfg = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/{CONFIGS[mmdet]}.py')
    module = cfg.model.to_dict()
    cfg.merge_from_dict(OWN)
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=cfg.test_dataloader.dataset)
    set_tta(cfg)
    assert cfg.model.to_dict() == {**OWN['tta_model'], 'module': module}
    assert cfg.test_dataloader.dataset.dataset.to_dict()['pipeline'] == OWN['tta_pipeline']


@pytest.mark.parametrize('kind', ['us3l_mm.LinearProbe', 'us3l_mm.models.SlimmableClassifier'])
def test_predictions_of_several_widths_are_not_merged(kind):
    cfg = Config(dict(default_scope='mmpretrain', model=dict(type=kind), test_dataloader=dict(dataset={})))
    with pytest.raises(ValueError, match=f'merges the predictions of one width, {kind} .*us3l export'):
        set_tta(cfg)

"""The config beside an exported net builds that net, or the export stops."""

import copy
import re

import pytest
import torch

from us3l_mm.deploy.plain_config import check_config
from us3l_mm.deploy.plain_model import plain_model
from us3l_mm.deploy.stock_backbone import stock_config

PRETRAIN = 'configs/digits/r18_1xb64-16e_digits.py'
DETECTOR = 'configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py'
pytestmark = pytest.mark.usefixtures('parse_once')


@pytest.fixture(
    scope='module', params=[(PRETRAIN, {}), (DETECTOR, {'model.backbone.init_cfg': None})], ids=['net', 'det']
)
def plain(request):
    path, options = request.param
    return plain_model(path, width=0.5, cfg_options=options)


def test_config_of_a_plain_net_builds_it(plain):
    check_config(plain.cfg, plain.model)


def test_config_of_another_width_is_refused(plain):
    cfg = copy.deepcopy(plain.cfg)
    cfg.model.backbone.width = 1.0
    shapes = {name: tuple(tensor.shape) for name, tensor in plain.model.state_dict().items()}
    with pytest.raises(
        RuntimeError, match=rf'cannot write a config of {type(plain.model).__name__} at width 0\.5'
    ) as e:
        check_config(cfg, plain.model)
    name, given = re.search(r': (\S+) is (\(.*?\)), the config builds \(\d', str(e.value)).groups()
    assert name.startswith('backbone.') and str(shapes[name]) == given


def test_tensors_on_one_side_only_are_refused(plain):
    net = copy.deepcopy(plain.model)
    net.extra = torch.nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r'extra\.bias is \(3,\), the config builds None'):
        check_config(plain.cfg, net)
    net = copy.deepcopy(plain.model)
    del net.backbone.conv1
    with pytest.raises(RuntimeError, match=r'backbone\.conv1\.weight is None, the config builds \(\d+, 3,'):
        check_config(plain.cfg, net)


@pytest.mark.usefixtures('no_random_weights')
def test_test_pipeline_of_a_stock_net_is_stock():
    options = {'model.backbone.init_cfg': None, 'model.widths': [1.0]}
    cfg = stock_config(plain_model('configs/linear/r18_4xb512-60e_in1k.py', width=1.0, cfg_options=options))
    assert cfg.test_dataloader.dataset.pipeline[0] == dict(type='LoadImageFromFile')
    assert 'us3l_mm' not in cfg.pretty_text

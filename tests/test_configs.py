"""Every config builds its model, and its name tells what is in it."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.engine import set_width

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('[!_]*/*.py'))
DATASETS = {'cifar100': 'CIFAR100', 'in1k': 'ImageNet', 'digits': 'us3l_mm.Digits', 'coco': 'CocoDataset'}
OWN = [path for path in CONFIGS if path.parent.name in ('us3l', 'linear')]


def ids(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} >= {'us3l', 'linear', 'det'}


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_model_builds(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    set_width(cfg)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert sum(parameter.requires_grad for parameter in model.parameters()) > 10


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_name_says_depth_batch_epochs_and_dataset(path):
    cfg = Config.fromfile(path)
    depth, gpus, batch, epochs, dataset = re.fullmatch(r'r(\d+)_(\d+)xb(\d+)(?:-(\d+)e)?(?:_(\w+))?', path.stem).groups(
        default=None
    )
    assert cfg.model.backbone.depth == int(depth)
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.train_cfg.max_epochs == int(epochs or 100)
    assert cfg.train_dataloader.dataset.type == DATASETS[dataset or 'in1k']
    if path.parent.name == 'us3l' and dataset != 'digits':
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
        assert cfg.optim_wrapper.optimizer.weight_decay == 0  # the group regularisation decays
        assert cfg.param_scheduler[0].T_max == cfg.train_cfg.max_epochs


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_configs_stay_short(path):
    """What a config changes against its bases: at most 40 lines; linear evaluation still holds its data set."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= (75 if path.parent.name == 'linear' else 40)


def test_linear_scaling_of_the_8xb256_learning_rate():
    small, large = (Config.fromfile(ROOT / f'configs/us3l/r50_8xb{batch}.py') for batch in (60, 256))
    ratio = large.optim_wrapper.optimizer.lr / small.optim_wrapper.optimizer.lr
    assert ratio == pytest.approx(large.auto_scale_lr.base_batch_size / small.auto_scale_lr.base_batch_size)

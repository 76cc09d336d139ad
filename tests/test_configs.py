"""Every config builds its model, and its name tells what is in it."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from us3l_mm.config import read_config, set_width

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').glob('[!_]*/*.py') if path.parent.name != 'tables')
DATASETS = {
    'cifar10': 'CIFAR10',
    'cifar100': 'CIFAR100',
    'dtd': 'DTD',
    'flowers102': 'Flowers102',
    'in1k': 'ImageNet',
    'pets': 'OxfordIIITPet',
    'digits': 'us3l_mm.Digits',
}
BACKBONES = {'r': 'SlimmableResNet', 'mbv': 'SlimmableMobileNetV', 'vit-': 'SlimmableVisionTransformer'}
MODEL_TYPES = {  # by folder and method
    'us3l': {None: 'us3l_mm.US3L'},
    'linear': {None: 'us3l_mm.LinearProbe', 'snet': 'us3l_mm.LinearProbe'},
    'baselines': {
        'simclr': 'SimCLR',
        'simsiam': 'SimSiam',
        'byol': 'BYOL',
        'mocov2': 'MoCo',
        'mocov3': 'MoCoV3',
        'us-simclr': 'us3l_mm.US3L',
        'us-simsiam': 'us3l_mm.US3L',
        'us-byol': 'us3l_mm.US3L',
        'us-mocov3': 'us3l_mm.US3L',
        'snet-simclr': 'us3l_mm.US3L',
        'snet-simsiam': 'us3l_mm.US3L',
        'snet-simsiam-distill': 'us3l_mm.US3L',
        'seed': 'us3l_mm.SEED',
        'seed-mse': 'us3l_mm.SEED',
        'supervised': 'ImageClassifier',
        'snet': 'us3l_mm.SlimmableClassifier',
        'snet-distill': 'us3l_mm.SlimmableClassifier',
        'usnet': 'us3l_mm.SlimmableClassifier',
        'usnet-distill': 'us3l_mm.SlimmableClassifier',
    },
}
DIGITS = {'_1xb128-20e_': 'linear', 'retinanet_': 'det', '_r18_': 'baselines', '': 'us3l'}  # by part of the name
NAME = re.compile(
    r'(?:(?P<method>[a-z0-9-]+)_)?(?P<family>r|mbv|vit-)(?P<size>\w+?)_(?P<gpus>\d+)xb(?P<batch>\d+)'
    r'(?:-(?P<epochs>\d+)e)?(?:-(?P<variant>[a-z0-9-]+))?(?:_(?P<dataset>\w+))?'
)

pytestmark = pytest.mark.filterwarnings('ignore')  # tiny or absent images, schedules without a Runner


def ids(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def job(path: Path) -> str:
    """Folder of a config; of a try on digits the folder of what it tries."""
    if path.parent.name != 'digits':
        return path.parent.name
    return next(folder for part, folder in DIGITS.items() if part in path.stem)


OWN = [path for path in CONFIGS if job(path) != 'det']  # the others are named as mmdet's


def parts(path: Path) -> dict:
    match = NAME.fullmatch(path.stem)
    assert match, f'{path.stem} is not [METHOD_]BACKBONE_GPUSxbBATCH[-EPOCHSe][-VARIANT][_DATASET]'
    return match.groupdict()


def read(path: Path) -> Config:
    return read_config(path, dict(classes=['cat']) if 'custom' in path.stem else None)


load = cache(read)


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} == {'us3l', 'baselines', 'linear', 'det', 'digits'}


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_model_builds(path, monkeypatch):
    cfg = read(path)
    init_default_scope(cfg.default_scope)
    set_width(cfg)
    cfg.model.backbone.init_cfg = None
    if len(cfg.model.get('widths', [])) > 2:
        cfg.model.widths = cfg.model.widths[::8]  # heads of more widths show nothing more, and take seconds
    for draw in ('uniform_', 'normal_'):
        monkeypatch.setattr(torch.Tensor, draw, lambda tensor, *_, **__: tensor)  # nor do random weights
    model = MODELS.build(cfg.model)
    assert sum(parameter.requires_grad for parameter in model.parameters()) >= 2


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_name_says_method_and_backbone(path):
    name, model = parts(path), load(path).model
    assert model.type == MODEL_TYPES[job(path)][name['method']]
    assert model.backbone.type.removeprefix('us3l_mm.').startswith(BACKBONES[name['family']])
    if name['family'] == 'r':
        assert model.backbone.depth == int(name['size'])
    elif name['family'] == 'vit-':
        assert model.backbone.arch == name['size']


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_name_says_batch_epochs_and_dataset(path):
    name, cfg = parts(path), load(path)
    batch = int(name['batch'])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_cfg.max_epochs == int(name['epochs'] or 100)
    dataset = cfg.train_dataloader.dataset
    dataset = dataset.get('dataset', dataset)  # one in memory holds another
    assert dataset.type == DATASETS[name['dataset'] or 'in1k']
    reads_files = 'LoadImageFromFile' in str(dataset.get('pipeline'))
    assert cfg.model.data_preprocessor.to_rgb == reads_files  # cv2 reads BGR; CIFAR's files are RGB
    if job(path) != 'linear':
        ends = [scheduler.get('end', scheduler.get('T_max')) for scheduler in cfg.param_scheduler]
        assert ends[-1] == cfg.train_cfg.max_epochs


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_every_config_names_the_batch_of_its_learning_rate(path):
    """GPUs times images, as the name says; mmdet's names say neither, and its rates are for 8 GPUs of 2 images."""
    batch = re.search(r'_(\d+)xb(\d+)', path.stem)
    expected = int(batch[1]) * int(batch[2]) if batch else 16
    assert load(path).auto_scale_lr.base_batch_size == expected


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_weights_are_decayed_once(path):
    """By the group regularisation or by the optimizer; linear heads not at all."""
    cfg = load(path)
    by_optimizer = cfg.optim_wrapper.optimizer.weight_decay > 0
    by_groups = cfg.model.get('group_reg') is not None
    assert by_optimizer + by_groups == (0 if job(path) == 'linear' else 1)


@pytest.mark.parametrize('path', [path for path in OWN if path.stem.startswith('us-')], ids=ids)
def test_us_net_has_none_of_the_guidelines(path):
    """US-Net's rules: the sandwich rule from the start, one update, in-place distillation."""
    model = load(path).model
    assert not model.sampler.dynamic and model.sampler.sandwich and model.sampler.num_widths == 4
    assert model['update'] == 'accumulate' and model.group_reg is None
    assert model.distill_loss is not None and model.distill_predictor is None and model.sub_target == 'online'


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_models_of_several_widths_have_our_ddp_wrapper(path):
    """mmengine's would bypass their train step."""
    cfg = load(path)
    init_default_scope(cfg.default_scope)
    if hasattr(MODELS.get(cfg.model.type), 'run_step'):
        assert cfg.model_wrapper_cfg.type == 'us3l_mm.US3LDistributedDataParallel'


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_configs_stay_short(path):
    """What a config changes against its bases: at most 40 lines."""
    assert len([line for line in path.read_text().splitlines() if line.strip()]) <= 40


@pytest.mark.parametrize('path', OWN, ids=ids)
def test_docstring_has_the_command_of_this_config(path):
    assert str(path.relative_to(ROOT)) in re.findall(r'configs/\S+', path.read_text().split('"""')[1])


@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_readme_of_the_folder_has_a_row_for_this_config(path):
    assert f'| [`{path.name}`]({path.name}) |' in path.with_name('README.md').read_text()


def test_linear_scaling_of_the_8xb256_learning_rate():
    small, large = (load(ROOT / f'configs/us3l/r50_8xb{batch}.py') for batch in (60, 256))
    ratio = large.optim_wrapper.optimizer.lr / small.optim_wrapper.optimizer.lr
    assert ratio == pytest.approx(large.auto_scale_lr.base_batch_size / small.auto_scale_lr.base_batch_size)


def test_individual_networks_are_built_at_the_width_asked_for():
    """`--width` reaches the backbone and the projector."""
    cfg = set_width(read_config(ROOT / 'configs/baselines/simclr_r18_4xb128-400e_cifar100.py'), 0.25)
    assert cfg.model.backbone.width == 0.25 and cfg.model.neck.in_channels == 128

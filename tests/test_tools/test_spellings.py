"""Tools with configs whose types are spelt otherwise: by paths of classes, and as classes in pure-Python configs."""

import re
from importlib import import_module
from types import FunctionType

import mmengine.registry
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from builders import load_script
from us3l_mm.config import find_dicts, load_config
from us3l_mm.registry import find_class

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('parse_once')]

PRETRAINING = 'configs/digits/r18_1xb64-16e_digits.py'
PROBE = 'configs/digits/r18_1xb128-20e_digits.py'
DETECTOR = 'configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
REGISTRIES = (
    *('MODELS', 'DATASETS', 'TRANSFORMS', 'HOOKS', 'LOOPS', 'METRICS', 'OPTIMIZERS', 'OPTIM_WRAPPERS'),
    *('PARAM_SCHEDULERS', 'DATA_SAMPLERS', 'VISUALIZERS', 'VISBACKENDS', 'FUNCTIONS', 'MODEL_WRAPPERS', 'TASK_UTILS'),
)
AS_IT_STANDS = ('Pretrained', 'nms')  # of which mmengine and mmcv compare the text


def found(kind, scope):
    """What a type names in whichever registry knows it."""
    for name in REGISTRIES:
        with getattr(mmengine.registry, name).switch_scope_and_registry(scope) as registry:
            thing = registry.get(kind)
        if thing is not None:
            return thing
    raise AssertionError(f'no registry knows {kind}')


def shortest_path(thing):
    """Path such as ``us3l_mm.models.LinearProbe``: a module deeper down may be hidden by a function of its name."""
    parts = thing.__module__.split('.')
    modules = ('.'.join(parts[: i + 1]) for i in range(len(parts)))
    module = next(name for name in modules if getattr(import_module(name), thing.__name__, None) is thing)
    return f'{module}.{thing.__name__}'


def respell(path, out, spelling):
    """Write a config of ours with its types spelt otherwise, and without a default scope."""
    cfg = Config.fromfile(path)
    scope = cfg.default_scope
    init_default_scope(scope)
    imports = set()
    for part in find_dicts(cfg._cfg_dict):
        if isinstance(part.get('type'), str) and part.type not in AS_IT_STANDS:
            thing = found(part.type, part.pop('_scope_', scope))
            if isinstance(thing, (type, FunctionType)):  # no partial
                part.type = shortest_path(thing)
                imports.add(part.type)
    cfg.default_scope = None
    text = cfg.pretty_text
    if spelling == 'classes':
        lines = []
        for number, name in enumerate(sorted(imports)):
            module, _, own = name.rpartition('.')
            lines.append(f'from {module} import {own} as Type{number}')
            text = re.sub(rf"type='{re.escape(name)}'", f'type=Type{number}', text)
        text = '\n'.join([*lines, '', text])
    out.write_text(text)
    return out


@pytest.fixture(params=['paths', 'classes'])
def spell(request, tmp_path):
    return lambda path: respell(path, tmp_path / 'spelt.py', request.param)


def saved(cfg, path, scope):
    """Checkpoint of a model as if trained."""
    init_default_scope(scope)
    model = MODELS.build(cfg.model)
    for tensor in model.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def test_from_pretraining_to_export(spell, tmp_path, run_tool):
    raw = saved(load_config(PRETRAINING), tmp_path / 'raw.pth', 'mmpretrain')
    config, ready = spell(PRETRAINING), tmp_path / 'raw_calibrated.pth'
    run_tool('calibrate_bn', config, raw, '--widths', 1.0, 0.5, '--num-batches', 2)
    for kind in ('dense', 'stock'):
        run_tool('export_width', config, ready, '--width', 0.5, '--format', kind, '--out', tmp_path / kind)
        exported = Config.fromfile(tmp_path / f'{kind}.py')
        with MODELS.switch_scope_and_registry(exported.default_scope) as registry:
            net = registry.build(exported.model)
        net.load_state_dict(torch.load(tmp_path / f'{kind}.pth')['state_dict'], strict=True)
    assert find_class(exported.model.backbone.type, None).__module__.startswith('mmpretrain')


def test_probe(spell, tmp_path, run_tool):
    raw = saved(load_config(PRETRAINING), tmp_path / 'raw.pth', 'mmpretrain')
    run_tool('calibrate_bn', PRETRAINING, raw, '--widths', 1.0, 0.5, '--num-batches', 2)
    config, ready = spell(PROBE), tmp_path / 'raw_calibrated.pth'
    options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.dataset.indices=16']
    options += [f'{split}_dataloader.dataset.indices=16' for split in ('val', 'test')]
    options += ['train_dataloader.batch_size=8']
    work = tmp_path / 'work'
    run_tool('linear_probe', config, ready, '--widths', 1.0, 0.5, '--work-dir', work, '--cfg-options', *options)
    assert (work / 'linear_probe.json').is_file()
    probe = work / 'epoch_1.pth'
    run_tool('export_width', config, probe, '--width', 0.5, '--format', 'dense', '--out', tmp_path / 'probe')
    assert Config.fromfile(tmp_path / 'probe.py').model.head.num_classes == 10


def test_detector(spell, tmp_path, run_tool, digit_scenes):
    cfg = load_config(DETECTOR, width=0.5)
    checkpoint = saved(cfg, tmp_path / 'det.pth', 'mmdet')
    config = spell(DETECTOR)
    again = load_config(str(config), width=0.5)
    assert load_script('det_widths').costs(again) == load_script('det_widths').costs(cfg)
    options = [f'test_dataloader.dataset.data_root={digit_scenes}/', 'test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False', 'model.test_cfg.score_thr=0']
    drawn = tmp_path / 'drawn'
    arguments = ['--width', 0.5, '--work-dir', tmp_path / 'work', '--show-dir', drawn, '--cfg-options', *options]
    run_tool('test', config, checkpoint, *arguments)
    assert len(list(drawn.iterdir())) == 2
    run_tool('test', config, checkpoint, *arguments[:4], '--tta', '--cfg-options', *options)

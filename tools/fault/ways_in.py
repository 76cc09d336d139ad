"""Ways in which a user's commands and configs read a file, for malicious.py."""

import hashlib
import json
import os
import pickle
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
OPTION = 'US3L_ALLOW_PICKLE'


# Each way is a function of the file and of the folder of configs.


def tool(name: str, *args: object) -> None:
    """Run a script in this process."""
    sys.argv = [str(ROOT / name), *map(str, args)]
    runpy.run_path(sys.argv[0], run_name='__main__')


def train(config: str, *options: str) -> Callable[[Path, Path], None]:
    def way(path: Path, configs: Path) -> None:
        filled = [option.format(path=path) for option in options]
        tool('tools/train.py', configs / config, '--work-dir', path.parent / 'work', *filled)

    return way


def resume_auto(path: Path, configs: Path) -> None:
    work = path.parent / 'work'
    work.mkdir()
    shutil.copy(path, work / 'epoch_1.pth')
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    tool('tools/train.py', configs / 'us3l.py', '--work-dir', work, '--resume')


def calibrate(path: Path, configs: Path) -> None:
    tool('tools/calibrate_bn.py', configs / 'us3l.py', path, '--widths', 1.0, '--num-batches', 1, '--device', 'cpu')


def probe(path: Path, configs: Path) -> None:
    tool('tools/linear_probe.py', configs / 'probe.py', path, '--work-dir', path.parent / 'work')


def test(path: Path, configs: Path) -> None:
    tool('tools/test.py', configs / 'supervised.py', path, '--work-dir', path.parent / 'work')


def export(path: Path, configs: Path) -> None:
    tool('tools/export_width.py', configs / 'us3l.py', path, '--width', 1.0, '--format', 'dense')


def choose(path: Path, configs: Path) -> None:
    options = ('--max-params', '10M', '--input', 16)
    tool('tools/analysis_tools/choose_width.py', configs / 'us3l.py', path, *options)


def publish(path: Path, configs: Path) -> None:
    tool('tools/publish.py', path)


def search(path: Path, configs: Path) -> None:
    options = ('--max-params', '10M', '--input', 16, '--num-batches', 1, '--device', 'cpu')
    tool('projects/width_search/search_widths.py', configs / 'us3l.py', path, *options)


def load_into(path: Path, configs: Path) -> None:
    from mmengine.runner import load_checkpoint

    load_checkpoint(torch.nn.Linear(1, 1), str(path), map_location='cpu')


def classify(path: Path, configs: Path) -> None:
    from mmpretrain import ImageClassificationInferencer

    ImageClassificationInferencer(Config.fromfile(configs / 'supervised.py'), pretrained=str(path), device='cpu')


def detect(path: Path, configs: Path) -> None:
    from mmdet.apis import init_detector

    init_detector(str(configs / 'detector.py'), str(path), palette='random', device='cpu')


def detect_by_weights(path: Path, configs: Path) -> None:
    """Without a config, which mmengine would take from the checkpoint and run."""
    from mmdet.apis import DetInferencer

    try:
        DetInferencer(weights=str(path), device='cpu')
    except ValueError as error:
        if 'Cannot find the config in the checkpoint' not in str(error):
            raise


# The good checkpoint that a payload is put into, and the way in.
WAYS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    'tools/train.py --resume FILE': ('us3l', train('us3l.py', '--resume', '{path}')),
    'tools/train.py --resume': ('us3l', resume_auto),
    'tools/train.py, load_from': ('us3l', train('us3l.py', '--cfg-options', 'load_from={path}')),
    'init_cfg of a backbone': (
        'us3l',
        train('from_backbone.py', '--cfg-options', 'model.backbone.init_cfg.checkpoint={path}'),
    ),
    'init_cfg of a model': ('us3l', train('from_model.py', '--cfg-options', 'model.init_cfg.checkpoint={path}')),
    'teacher of SEED': ('byol', train('seed.py', '--cfg-options', 'model.teacher.checkpoint={path}')),
    'tools/calibrate_bn.py': ('us3l', calibrate),
    'tools/linear_probe.py': ('us3l_calibrated', probe),
    'tools/test.py': ('supervised', test),
    'tools/export_width.py': ('us3l_calibrated', export),
    'tools/publish.py': ('us3l_calibrated', publish),
    'tools/analysis_tools/choose_width.py': ('us3l_calibrated', choose),
    'projects/width_search': ('us3l_calibrated', search),
    'mmengine.runner.load_checkpoint': ('us3l', load_into),
    'mmpretrain inferencer': ('supervised', classify),
    'mmdet.apis.init_detector': ('supervised', detect),
    'mmdet inferencer without a config': ('supervised', detect_by_weights),
}


def annotations(path: Path, configs: Path) -> None:
    from mmengine.dataset import BaseDataset

    BaseDataset(ann_file=str(path))


def load_data(path: Path, configs: Path) -> None:
    import mmengine

    mmengine.load(path)


def proposals(path: Path, configs: Path) -> None:
    from mmdet.datasets import CocoDataset

    image = dict(id=1, file_name='1.png', width=9, height=9)
    content = dict(images=[image], annotations=[], categories=[dict(id=1, name='cat')])
    (path.parent / 'coco.json').write_text(json.dumps(content))
    CocoDataset(
        ann_file=str(path.parent / 'coco.json'),
        data_prefix=dict(img=''),
        proposal_file=str(path),
        metainfo=dict(classes=('cat',)),
        pipeline=[],
    )


def splits(path: Path, configs: Path) -> None:
    from mmdet.datasets import RefCocoDataset

    (path.parent / 'instances.json').write_text('{}')
    RefCocoDataset(str(path.parent), 'instances.json', path.name, dict(img_path=''), split='train')


def hierarchy(path: Path, configs: Path) -> None:
    from mmdet.datasets.openimages import OpenImagesChallengeDataset

    dataset = OpenImagesChallengeDataset.__new__(OpenImagesChallengeDataset)
    dataset.backend_args = None
    dataset._get_relation_matrix(str(path))


def cifar(path: Path, configs: Path) -> None:
    """A data set in CIFAR's format whose hashes are right."""
    from mmpretrain.datasets import CIFAR10

    entry = [path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    own = type('Own', (CIFAR10,), dict(base_folder='', train_list=[entry], test_list=[entry]))
    try:
        own(data_root=str(path.parent), split='train', pipeline=[])
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f'{path}: {error}') from error  # mmpretrain hands no name on


def with_option(way: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def run(path: Path, configs: Path) -> None:
        os.environ[OPTION] = '1'
        way(path, configs)

    return run


DATA_WAYS = {
    'mmengine.load(*.pkl)': load_data,
    'ann_file=*.pkl of mmengine': annotations,
    'proposal_file=*.pkl of mmdet': proposals,
    'split_file=*.pkl of mmdet': splits,
    'hierarchy of OpenImages of mmdet': hierarchy,
}
DATA_WAYS |= {f'{name}, {OPTION}=1': with_option(way) for name, way in DATA_WAYS.items()}
DATA_WAYS['CIFAR of mmpretrain'] = cifar
YAML_WAYS = {'mmengine.load(*.yaml)': load_data, 'ann_file=*.yaml of mmengine': annotations}

CONFIGS = {
    'us3l': """_base_ = '{root}/configs/digits/r18_1xb64-16e_digits.py'
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=64, hid_channels=16, out_channels=16),
    distill_predictor=dict(in_channels=16, hid_channels=16, out_channels=16))
{short}""",
    'byol': """_base_ = '{root}/configs/digits/byol_r18_1xb64-2e_digits.py'
model = dict(neck=dict(hid_channels=16))
{short}""",
    'seed': """_base_ = '{root}/configs/digits/seed_r18_1xb64-2e_digits.py'
model = dict(
    neck=dict(hid_channels=16), head=dict(loss=dict(queue_len=40)), teacher=dict(neck=dict(hid_channels=16)))
{short}""",
    'supervised': """_base_ = '{root}/configs/digits/supervised_r18_1xb64-2e_digits.py'
train_cfg = dict(val_interval=1)
{short}""",
    'probe': """_base_ = '{root}/configs/digits/r18_1xb128-20e_digits.py'
model = dict(widths=[1.0], backbone=dict(stem_channels=8, base_channels=8))
param_scheduler = []
train_cfg = dict(val_interval=1)
{short}""",
    'detector': """_base_ = '{root}/configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py'
model = dict(backbone=dict(init_cfg=None))""",
    'from_backbone': """_base_ = './us3l.py'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', prefix='backbone.')))""",
    'from_model': "_base_ = './us3l.py'\nmodel = dict(init_cfg=dict(type='Pretrained'))",
}
SHORT = """train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=20, num_workers=0, dataset=dict(per_class=2))
default_hooks = dict(checkpoint=dict(interval=1))
"""


def prepare(configs: Path) -> None:
    """Write the configs, and train and calibrate the good checkpoints."""
    for name, content in CONFIGS.items():
        (configs / f'{name}.py').write_text(content.format(root=ROOT, short=SHORT))
    for name in ('us3l', 'byol', 'supervised'):
        tool('tools/train.py', configs / f'{name}.py', '--work-dir', configs / name)
        shutil.copy(configs / name / 'epoch_1.pth', configs / f'{name}.pth')
    options = ('--widths', 1.0, 0.5, '--num-batches', 1, '--device', 'cpu')
    tool('tools/calibrate_bn.py', configs / 'us3l.py', configs / 'us3l.pth', *options)
    calibrated = torch.load(configs / 'us3l_calibrated.pth', weights_only=True)
    # Calibrating leaves `message_hub` out, which a payload may be put into.
    torch.save(dict(calibrated, message_hub=dict(runtime_info={})), configs / 'us3l_calibrated.pth')

"""Every config builds its model, and its name tells what is in it."""

import copy
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, init_default_scope

from builders import ROOT, all_faults
from us3l_mm.config import find_dicts, read_config, set_width

CONFIGS = sorted(path for path in (ROOT / 'configs').glob('[!_]*/*.py') if path.parent.name != 'tables')
DATASETS = {
    'cifar10': 'CIFAR10',
    'cifar100': 'CIFAR100',
    'dtd': 'DTD',
    'flowers102': 'Flowers102',
    'food101': 'Food101',
    'caltech101': 'Caltech101',
    'aircraft': 'FGVCAircraft',
    'folder': 'CustomDataset',
    'in1k': 'ImageNet',
    'pets': 'OxfordIIITPet',
    'digits': 'us3l_mm.Digits',
    'digitphotos': 'us3l_mm.DigitPhotos',
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
DIGITS = {  # by part of the name
    '_1xb128-20e_': 'linear',
    '_1xb256-50e_': 'linear',
    'retinanet_': 'det',
    '_r18_': 'baselines',
    '': 'us3l',
}
INDEX = [model for part in load(ROOT / 'model-index.yml')['Import'] for model in load(ROOT / part)['Models']]
NAME = re.compile(
    r'(?:(?P<method>[a-z0-9-]+)_)?(?P<family>r|mbv|vit-)(?P<size>\w+?)_(?P<gpus>\d+)xb(?P<batch>\d+)'
    r'(?:-(?P<epochs>\d+)e)?(?:-(?P<variant>[a-z0-9-]+))?(?:_(?P<dataset>\w+))?'
)

pytestmark = [
    pytest.mark.usefixtures('parse_once'),
    pytest.mark.filterwarnings('ignore'),  # tiny or absent images, schedules without a Runner
]


def ids(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def job(path: Path) -> str:
    """Folder of a config; of a try on digits the folder of what it tries."""
    if path.parent.name != 'digits':
        return path.parent.name
    return next(folder for part, folder in DIGITS.items() if part in path.stem)


def parts(path: Path) -> dict:
    match = NAME.fullmatch(path.stem)
    assert match, f'{path.stem} is not [METHOD_]BACKBONE_GPUSxbBATCH[-EPOCHSe][-VARIANT][_DATASET]'
    return match.groupdict()


# What must hold of a config: each check names what does not.


def unlike(what: str, found, expected) -> list[str]:
    return [] if found == expected else [f'{what} is {found!r}, not {expected!r}']


def check_name_says_method_and_backbone(path: Path, cfg: Config):
    name, model = parts(path), cfg.model
    yield from unlike('the type of the model', model.type, MODEL_TYPES[job(path)][name['method']])
    kind = model.backbone.type.removeprefix('us3l_mm.')
    yield from unlike(
        'the start of the type of the backbone', kind[: len(BACKBONES[name['family']])], BACKBONES[name['family']]
    )
    if name['family'] == 'r':
        yield from unlike('the depth', model.backbone.depth, int(name['size']))
    elif name['family'] == 'vit-':
        yield from unlike('the size', model.backbone.arch, name['size'])


def check_name_says_batch_and_epochs(path: Path, cfg: Config):
    name = parts(path)
    yield from unlike('the batch', cfg.train_dataloader.batch_size, int(name['batch']))
    yield from unlike('the number of epochs', cfg.train_cfg.max_epochs, int(name['epochs'] or 100))
    if job(path) != 'linear':
        ends = [scheduler.get('end', scheduler.get('T_max')) for scheduler in cfg.param_scheduler]
        yield from unlike('the end of the last schedule', ends[-1], cfg.train_cfg.max_epochs)


def check_name_says_dataset(path: Path, cfg: Config):
    dataset = cfg.train_dataloader.dataset
    dataset = dataset.get('dataset', dataset)  # one in memory holds another
    yield from unlike('the data set', dataset.type, DATASETS[parts(path)['dataset'] or 'in1k'])
    reads_files = any(name in str(dataset.get('pipeline')) for name in ('LoadImageFromFile', 'LoadResizedCrops'))
    # cv2 reads BGR; CIFAR's files are RGB
    yield from unlike('to_rgb', cfg.model.data_preprocessor.to_rgb, reads_files)


def check_weights_are_decayed_once(path: Path, cfg: Config):
    """By the group regularisation or by the optimizer; linear heads not at all."""
    by_optimizer = cfg.optim_wrapper.optimizer.weight_decay > 0
    by_groups = cfg.model.get('group_reg') is not None
    yield from unlike('how often weights are decayed', by_optimizer + by_groups, 0 if job(path) == 'linear' else 1)


def check_us_net_has_none_of_the_guidelines(path: Path, cfg: Config):
    """US-Net's rules: the sandwich rule from the start, one update, in-place distillation."""
    if not path.stem.startswith('us-'):
        return
    model = cfg.model
    sampler = {key: model.sampler[key] for key in ('dynamic', 'sandwich', 'num_widths')}
    yield from unlike('the sampler', sampler, dict(dynamic=False, sandwich=True, num_widths=4))
    yield from unlike('update', model['update'], 'accumulate')
    yield from unlike('sub_target', model.sub_target, 'online')
    yield from unlike('group_reg', model.group_reg, None)
    yield from unlike('distill_predictor', model.distill_predictor, None)
    if model.distill_loss is None:
        yield 'distill_loss is None'


def check_config_stays_short(path: Path, cfg: Config):
    """What a config changes against its bases: at most 40 lines."""
    count = len([line for line in path.read_text().splitlines() if line.strip()])
    if count > 40:
        yield f'{count} lines, more than 40'


def check_docstring_has_the_command_of_this_config(path: Path, cfg: Config):
    named = re.findall(r'configs/\S+', path.read_text().split('"""')[1])
    if str(path.relative_to(ROOT)) not in named:
        yield f'the docstring names {named}, not this config'


def check_batch_of_the_learning_rate(path: Path, cfg: Config):
    """GPUs times images, as the name says; mmdet's names say neither, and its rates are for 8 GPUs of 2 images."""
    batch = re.search(r'_(\d+)xb(\d+)', path.stem)
    expected = int(batch[1]) * int(batch[2]) if batch else 16
    yield from unlike('base_batch_size', cfg.auto_scale_lr.base_batch_size, expected)


def check_models_of_several_widths_have_our_ddp_wrapper(path: Path, cfg: Config):
    """mmengine's would bypass their train step."""
    init_default_scope(cfg.default_scope)
    if hasattr(MODELS.get(cfg.model.type), 'run_step'):
        found = cfg.get('model_wrapper_cfg', {}).get('type')
        yield from unlike('the wrapper', found, 'us3l_mm.US3LDistributedDataParallel')


def check_images_are_loaded_by_us(path: Path, cfg: Config):
    """Errors name the file then; `_scope_` rather than a prefix, as inferencers look for the plain name."""
    for part in find_dicts([cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]):
        if 'LoadImageFromFile' in str(part.get('type')):
            yield from unlike('loading', part, {**part, 'type': 'LoadImageFromFile', '_scope_': 'us3l_mm'})


def check_readme_of_the_folder_has_a_row(path: Path, cfg: Config):
    if f'| [`{path.name}`]({path.name}) |' not in path.with_name('README.md').read_text():
        yield 'README.md of its folder has no row for it'


def check_model_index_has_it(path: Path, cfg: Config):
    """With what it trains, and with the results that its docstring tells, no others."""
    found = [model for model in INDEX if model['Config'] == str(path.relative_to(ROOT))]
    if len(found) != 1:
        yield f'the model index has {len(found)} entries for it: run tools/dev/write_metafiles.py'
        return
    about, docstring = found[0]['Metadata'], path.read_text().split('"""')[1]
    length = {'Epochs': cfg.train_cfg.get('max_epochs'), 'Iterations': cfg.train_cfg.get('max_iters')}
    yield from unlike('its length', {key: about.get(key) for key in length}, length)
    gpus = re.search(r'(\d+) GPUs? of', docstring)
    yield from unlike('its batch', about['Batch Size'], cfg.train_dataloader.batch_size * int(gpus[1] if gpus else 1))
    numbers = [value for result in found[0].get('Results', ()) for value in result['Metrics'].values()]
    yield from unlike('having results', bool(numbers), 'Result: not run yet' not in docstring)
    said = re.findall(r'\d+\.\d+', ' '.join(docstring.split()).partition('Result: ')[2].partition(' at widths ')[0])
    yield from unlike('its results', numbers, [float(number) for number in said] if numbers else [])


def check_model_builds(path: Path, cfg: Config):
    cfg = copy.deepcopy(cfg)
    init_default_scope(cfg.default_scope)
    set_width(cfg)
    cfg.model.backbone.init_cfg = None
    if len(cfg.model.get('widths', [])) > 2:
        cfg.model.widths = cfg.model.widths[::8]  # heads of more widths show nothing more, and take seconds
    model = MODELS.build(cfg.model)
    if sum(parameter.requires_grad for parameter in model.parameters()) < 2:
        yield 'it trains fewer than 2 parameters'


OF_ALL = (
    check_batch_of_the_learning_rate,
    check_models_of_several_widths_have_our_ddp_wrapper,
    check_images_are_loaded_by_us,
    check_readme_of_the_folder_has_a_row,
    check_model_index_has_it,
    check_model_builds,
)
OF_OURS = (
    check_name_says_method_and_backbone,
    check_name_says_batch_and_epochs,
    check_name_says_dataset,
    check_weights_are_decayed_once,
    check_us_net_has_none_of_the_guidelines,
    check_config_stays_short,
    check_docstring_has_the_command_of_this_config,
)


def faults(path: Path, cfg: Config) -> list[str]:
    return all_faults([*OF_ALL, *(OF_OURS if job(path) != 'det' else ())], path, cfg)  # det is named as mmdet's are


def test_there_are_configs():
    assert len(INDEX) == len({model['Name'] for model in INDEX}) == len(CONFIGS)
    assert {path.parent.name for path in CONFIGS} == {'us3l', 'baselines', 'linear', 'det', 'digits'}


@pytest.mark.usefixtures('no_random_weights')
@pytest.mark.parametrize('path', CONFIGS, ids=ids)
def test_config_has_no_fault(path):
    found = faults(path, read_config(path, dict(classes=['cat']) if 'custom' in path.stem else None))
    assert not found, '\n'.join([f'{ids(path)}:', *found])


def test_every_check_finds_its_fault(tmp_path):
    """And each is named, whatever the others find."""
    path = ROOT / 'configs/baselines/us-simclr_r18_4xb128-400e_cifar100.py'
    cfg = read_config(path)
    good = all_faults(OF_OURS, path, cfg)
    assert not good, good
    cfg.merge_from_dict(
        {
            'model.type': 'us3l_mm.SlimmableClassifier',
            'model.backbone.depth': 50,
            'model.backbone.bananas': 1,
            'model.sampler.dynamic': True,
            'train_dataloader.batch_size': 1,
            'train_cfg.max_epochs': 7,
            'train_dataloader.dataset.type': 'CIFAR10',
            'optim_wrapper.optimizer.weight_decay': 0,
            'auto_scale_lr.base_batch_size': 3,
            'model_wrapper_cfg.type': 'MMDistributedDataParallel',
            'train_dataloader.dataset.pipeline.0': dict(type='LoadImageFromFile'),
        }
    )
    moved = ROOT / 'configs/us3l' / path.name  # of which no README knows
    found = all_faults(OF_ALL, path, cfg)
    assert [fault.partition(':')[0] for fault in found] == [
        'batch of the learning rate',
        'models of several widths have our ddp wrapper',
        'images are loaded by us',
        'model index has it',  # epochs
        'model index has it',  # batch
        'model builds',
    ], found
    assert all_faults([check_readme_of_the_folder_has_a_row], moved, cfg)
    found = all_faults(OF_OURS, path, cfg)
    assert {fault.partition(':')[0] for fault in found} == {
        'name says method and backbone',
        'name says batch and epochs',
        'name says dataset',
        'weights are decayed once',
        'us net has none of the guidelines',
    }, found
    assert len(found) == 9  # type, depth; batch, epochs, the schedule that ends at others; set, channels; one each
    long = tmp_path / 'r18_1xb64_digits.py'
    long.write_text('"""Run `tools/train.py configs/other.py`."""\n' + 'x = 1\n' * 40)
    assert all_faults([check_config_stays_short], long, cfg) == ['config stays short: 41 lines, more than 40']
    (fault,) = all_faults([check_docstring_has_the_command_of_this_config], long, cfg)
    assert 'docstring' in fault


def test_linear_scaling_of_the_8xb256_learning_rate():
    small, large = (read_config(ROOT / f'configs/us3l/r50_8xb{batch}.py') for batch in (60, 256))
    ratio = large.optim_wrapper.optimizer.lr / small.optim_wrapper.optimizer.lr
    assert ratio == pytest.approx(large.auto_scale_lr.base_batch_size / small.auto_scale_lr.base_batch_size)


def test_individual_networks_are_built_at_the_width_asked_for():
    """`--width` reaches the backbone and the projector."""
    cfg = set_width(read_config(ROOT / 'configs/baselines/simclr_r18_4xb128-400e_cifar100.py'), 0.25)
    assert cfg.model.backbone.width == 0.25 and cfg.model.neck.in_channels == 128

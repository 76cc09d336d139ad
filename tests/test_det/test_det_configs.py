"""Detection configs: the protocol that their names say, and widths that reach all of a model."""

from pathlib import Path

import pytest
from mmengine.config import Config

from builders import all_faults
from us3l_mm.config import load_config, read_config, set_width
from us3l_mm.slim import slim_channels

CONFIGS = [path for path in sorted(Path('configs/det').glob('[mfr]*.py')) if 'digits' not in path.stem]
SCHEDULES = {
    '1x': (dict(max_epochs=12), [8, 11]),
    '2x': (dict(max_epochs=24), [16, 22]),
    '24k': (dict(max_iters=24000), [18000, 22000]),
}

pytestmark = pytest.mark.usefixtures('parse_once', 'no_random_weights')


def options(path):
    return dict(classes=['cat']) if 'custom' in path.stem else None


def load(path, **kwargs):
    return load_config(str(path), options(path), **kwargs)


def test_all_detectors_are_there():
    names = {path.stem for path in CONFIGS}
    coco = ('mask-rcnn_r50_fpn', 'mask-rcnn_r50_c4', 'faster-rcnn_r50_fpn', 'retinanet_r18_fpn', 'retinanet_r50_fpn')
    assert names >= {f'{name}_{schedule}_coco' for name in coco for schedule in ('1x', '2x')}
    assert names >= {f'faster-rcnn_r50_{kind}_24k_voc0712' for kind in ('fpn', 'c4')}


def check_width_reaches_all_that_reads_the_backbone(path, cfg):
    for width in (0.75, 0.3):
        model = set_width(read_config(path, options(path)), width).model
        base = 256 if '_r50_' in path.stem else 64
        outputs = [slim_channels(base * 2**stage, width) for stage in range(4)]
        if model.backbone.width != width:
            yield f'the backbone is {model.backbone.width} wide, not {width}'
        if '_c4_' not in path.stem:
            found, expected = {'neck': model.neck.in_channels}, {'neck': outputs}
        else:
            head = model.roi_head
            found = {
                'rpn_head': model.rpn_head.in_channels,
                'bbox_roi_extractor': head.bbox_roi_extractor.out_channels,
                'bbox_head': head.bbox_head.in_channels,
                'mask_head': head.mask_head.in_channels if 'mask_head' in head else outputs[3],
            }
            expected = dict(zip(found, (outputs[2], outputs[2], outputs[3], outputs[3])))
            if head.shared_head.width != width:
                yield f'the shared head is {head.shared_head.width} wide, not {width}'
        for part in found:
            if found[part] != expected[part]:
                yield f'{part} reads {found[part]} channels at width {width}, not {expected[part]}'


def check_schedule_is_that_of_the_name(path, cfg):
    key = next((key for key in SCHEDULES if f'_{key}_' in path.stem), '2x')
    length, milestones = SCHEDULES[key]
    if {name: cfg.train_cfg[name] for name in length} != length:
        yield f'{cfg.train_cfg} is not {length}'
    if cfg.param_scheduler[1].milestones != milestones:
        yield f'the steps are at {cfg.param_scheduler[1].milestones}, not {milestones}'
    if cfg.param_scheduler[1].end != next(iter(length.values())):
        yield f'the steps end at {cfg.param_scheduler[1].end}'
    if 'custom' not in path.stem and cfg.train_dataloader.batch_size != 2:
        yield f'the batch is {cfg.train_dataloader.batch_size}, not 2'


def check_all_layers_train_with_synchronised_batch_norm(path, cfg):
    backbone, roi_head = cfg.model.backbone, cfg.model.get('roi_head', {})
    if cfg.sync_bn != 'torch':
        yield f'sync_bn is {cfg.sync_bn!r}'
    if (backbone.frozen_stages, backbone.norm_eval) != (-1, False):
        yield f'frozen_stages and norm_eval are {backbone.frozen_stages} and {backbone.norm_eval}'
    if '_c4_' in path.stem:
        if roi_head.shared_head.type != 'us3l_mm.SlimmableResLayer':
            yield f'the shared head is a {roi_head.shared_head.type}'
        if roi_head.shared_head.init_cfg != backbone.init_cfg:
            yield 'the shared head starts from other weights than the backbone'
        return
    heads = [name for name in ('bbox_head', 'mask_head') if name in roi_head]
    for name, part in [('neck', cfg.model.neck), *((name, roi_head[name]) for name in heads)]:
        if part.norm_cfg.type != 'BN':
            yield f'the norm of the {name} is {part.norm_cfg.type}'


def check_pixels_are_those_of_the_pretraining(path, cfg):
    pixels = cfg.model.data_preprocessor
    if pixels.mean != [123.675, 116.28, 103.53] or not pixels.bgr_to_rgb:
        yield f'the pixels are {pixels}'


def check_docstring_has_command_and_result_and_the_file_stays_short(path, cfg):
    text = path.read_text()
    for part in (str(path), 'Result: '):
        if part not in text.split('"""')[1]:
            yield f'the docstring lacks {part!r}'
    count = len([line for line in text.splitlines() if line.strip()])
    if count > 40:
        yield f'{count} lines, more than 40'


CHECKS = (
    check_width_reaches_all_that_reads_the_backbone,
    check_schedule_is_that_of_the_name,
    check_all_layers_train_with_synchronised_batch_norm,
    check_pixels_are_those_of_the_pretraining,
    check_docstring_has_command_and_result_and_the_file_stays_short,
)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_has_no_fault(path):
    found = all_faults(CHECKS, path, load(path, width=0.3))
    assert not found, '\n'.join([f'{path.name}:', *found])


@pytest.mark.parametrize(
    ('name', 'wrong', 'checks'),
    [
        ('mask-rcnn_r50_c4_1x_coco', {'model.roi_head.shared_head.type': 'ResLayer', 'sync_bn': None}, {2: 2}),
        ('retinanet_r18_fpn_1x_coco', {'model.neck.norm_cfg.type': 'LN', 'train_cfg.max_epochs': 3}, {1: 1, 2: 1}),
        ('retinanet_r18_fpn_1x_coco', {'model.data_preprocessor.bgr_to_rgb': False}, {3: 1}),
        ('retinanet_r18_fpn_1x_coco', {'train_dataloader.batch_size': 4}, {1: 1}),
    ],
)
def test_checks_find_their_faults(name, wrong, checks):
    path = Path('configs/det') / f'{name}.py'
    cfg = load(path, width=0.3)
    cfg.merge_from_dict(wrong)
    for i, check in enumerate(CHECKS):
        assert len(all_faults([check], path, cfg)) == checks.get(i, 0), check.__name__


def test_voc_has_all_of_its_images_and_metrics():
    cfg = load(Path('configs/det/faster-rcnn_r50_fpn_24k_voc0712.py'), width=0.3)
    lists = [dataset.ann_file for dataset in cfg.train_dataloader.dataset.datasets]
    assert lists == [f'{year}/ImageSets/Main/trainval.txt' for year in ('VOC2007', 'VOC2012')]
    assert cfg.test_dataloader.dataset.ann_file == 'VOC2007/ImageSets/Main/test.txt'
    assert cfg.test_evaluator.iou_thrs == pytest.approx([0.5 + 0.05 * i for i in range(10)])
    assert cfg.model.roi_head.bbox_head.num_classes == 20


def test_what_a_run_dumps_builds_the_same_model(tmp_path):
    cfg = load(Path('configs/det/mask-rcnn_r50_c4_1x_coco.py'), width=0.3)
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(str(tmp_path / 'dumped.py')).model == cfg.model
    assert Config.fromfile(tmp_path / 'dumped.py').model == cfg.model

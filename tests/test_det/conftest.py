"""Small sets and nets for detectors."""

import json
from pathlib import Path

import cv2
import pytest
import torch

from us3l_mm.models import SlimmableResNet
from us3l_mm.slim import calibrate_bn

SMALL = dict(depth=18, stem_channels=16, base_channels=16)
XML = (
    '<object><name>{}</name><difficult>0</difficult><bndbox>'
    '<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)


@pytest.fixture(scope='session')
def voc_scenes(tmp_path_factory, digit_scenes):
    """The digit scenes in VOC's format: 4 for training, 2 for validation."""
    coco, voc = digit_scenes, tmp_path_factory.mktemp('voc')
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (voc / folder).mkdir(parents=True)
    for split in ('train', 'val'):
        found = json.loads((coco / f'annotations/{split}.json').read_text())
        names = {image['id']: f'{split}_{Path(image["file_name"]).stem}' for image in found['images']}
        labels = {category['id']: category['name'] for category in found['categories']}
        for image in found['images']:
            pixels = cv2.imread(str(coco / split / image['file_name']))
            cv2.imwrite(str(voc / f'JPEGImages/{names[image["id"]]}.jpg'), pixels)
            boxes = [a for a in found['annotations'] if a['image_id'] == image['id']]
            text = f'<size><width>{image["width"]}</width><height>{image["height"]}</height></size>'
            for box in boxes:
                x, y, width, height = box['bbox']
                text += XML.format(f'digit {labels[box["category_id"]]}', x + 1, y + 1, x + width + 1, y + height + 1)
            (voc / f'Annotations/{names[image["id"]]}.xml').write_text(f'<annotation>{text}</annotation>')
        (voc / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names.values()))
    (voc / 'classes.txt').write_text(''.join(f'digit {label}\n' for label in range(10)))
    return voc


@pytest.fixture(scope='session')
def small_checkpoint(tmp_path_factory):
    """Pretraining of a narrow ResNet-18, calibrated at 1.0 and 0.5."""
    torch.manual_seed(0)
    net = SlimmableResNet(**SMALL)
    calibrate_bn(net, [1.0, 0.5], [torch.randn(4, 3, 64, 64)])
    path = tmp_path_factory.mktemp('pretrained') / 'calibrated.pth'
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in net.state_dict().items()}}, path)
    return path


@pytest.fixture
def small_options(voc_scenes):
    """Options that make a small detector of the config for sets of one's own, and point it to the scenes."""
    heads = ['neck.out_channels', 'rpn_head.in_channels', 'rpn_head.feat_channels']
    heads += [f'roi_head.{name}' for name in ('bbox_roi_extractor.out_channels', 'bbox_head.in_channels')]
    heads += ['roi_head.bbox_head.conv_out_channels', 'roi_head.bbox_head.fc_out_channels']
    in_process = ('num_workers=0', 'persistent_workers=False')
    loaders = [f'{split}_dataloader.{option}' for split in ('train', 'val', 'test') for option in in_process]
    return [
        f'data_root={voc_scenes}',
        f'classes={voc_scenes}/classes.txt',
        *(f'model.backbone.{key}={value}' for key, value in SMALL.items()),
        *(f'model.{name}=16' for name in heads),
        *loaders,
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.pipeline.2.scales=[(64,64)]',
        *(f'{split}_dataloader.dataset.pipeline.1.scale=(64,64)' for split in ('val', 'test')),
        'model.test_cfg.rcnn.score_thr=0',  # a net that has learnt nothing shall predict something
        'model.test_cfg.rpn.max_per_img=20',
        'train_cfg.max_epochs=1',
        *(f'{split}_evaluator.iou_thrs=[0.5,0.75]' for split in ('val', 'test')),  # ten take seconds
    ]

"""A COCO file: labels by name, what is repaired and counted, what is refused."""

import copy
import json
import logging
import re

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image

from us3l_mm.datasets.custom_coco import CustomCOCO

NAMES = {3: 'rust', 7: 'leaf', 1: 'sky'}  # neither by number nor by name
CONTENT = dict(
    images=[dict(id=5, file_name='a.png', width=40, height=30), dict(id=2, file_name='b.png', width=40, height=30)],
    categories=[dict(id=number, name=name) for number, name in NAMES.items()],
    annotations=[
        dict(id=number, image_id=5, category_id=category, bbox=[4 * number, 5, 8, 9], area=72, iscrowd=0)
        for number, category in enumerate((7, 3, 1, 3), 1)
    ],
)


@pytest.fixture
def content(tmp_path):
    """Content of the file, to be changed; images of 40 x 30 pixels are there."""
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (40, 30)).save(tmp_path / name)
    return copy.deepcopy(CONTENT)


@pytest.fixture
def read(tmp_path, content):
    def read(classes=('rust', 'leaf', 'sky'), kind=CustomCOCO, encoding='utf-8', **kwargs):
        path = tmp_path / 'boxes.json'
        path.write_text(json.dumps(content), encoding=encoding)
        options = dict(data_prefix=dict(img=str(tmp_path)), metainfo=dict(classes=classes), pipeline=[])
        return kind(ann_file=str(path), **{**options, **kwargs})

    return read


@pytest.fixture
def told(monkeypatch):
    """Texts of warnings."""
    found = []
    monkeypatch.setattr('us3l_mm.datasets.found.print_log', lambda text, _, level: found.append((text, level)))
    return found


def labels(data):
    return [[data.metainfo['classes'][box['bbox_label']] for box in info['instances']] for info in data]


def test_images_without_boxes_are_left_out_if_asked_for(read, told):
    assert [info['img_id'] for info in read()] == [5, 2]
    left = read(filter_cfg=dict(filter_empty_gt=True))
    assert [left.get_data_info(index)['img_id'] for index in range(len(left))] == [5]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('classes', [('rust', 'leaf', 'sky'), ('sky', 'leaf', 'rust'), ['leaf', 'sky', 'rust']])
def test_labels_go_by_name_in_the_order_given(read, told, classes, encoding):
    data = read(classes, encoding=encoding)
    assert sorted(labels(data)) == [[], ['leaf', 'rust', 'sky', 'rust']]
    assert data.metainfo['classes'] == classes and not told


def test_sound_file_is_read_as_mmdet_reads_it(read, content, told):
    in_order = tuple(NAMES.values())  # mmdet numbers classes as the file lists them
    content['annotations'][0].update(iscrowd=1, segmentation=[[1, 1, 5, 1, 5, 5]])
    content['annotations'][1].update(bbox=[0.1, 3.25, 20.7, 26.6])
    ours, theirs = (list(read(in_order, kind)) for kind in (CustomCOCO, CocoDataset))
    assert ours == theirs and not told


def test_overlap_of_less_than_a_pixel_is_cut_without_a_word(read, content, told):
    content['annotations'] = [dict(content['annotations'][0], bbox=[-0.5, 3.25, 41, 26.875])]
    assert [box['bbox'] for info in read() for box in info['instances']] == [[0, 3.25, 40, 30]]
    assert not told


@pytest.mark.parametrize(
    ('classes', 'text'),
    [
        (
            ['rust', 'laef', 'sky'],
            r"unknown classes 'laef' \(did you mean 'leaf'\?\); its categories are 'rust', 'leaf'",
        ),
        (
            ['Rust', 'leaf', 'SKY'],
            r"unknown classes 'Rust' \(did you mean 'rust'\?\), 'SKY' \(did you mean 'sky'\?\); its",
        ),
        (['zebra'], "unknown classes 'zebra'; its categories"),
    ],
)
def test_unknown_name_is_an_error_with_the_nearest_known_one(read, classes, text):
    with pytest.raises(ValueError, match=rf'boxes\.json: {text}'):
        read(classes)


def test_stock_classes_that_the_file_lacks_are_an_error(read):
    with pytest.raises(ValueError, match="unknown classes 'person', .* and 75 more; .*name them by `classes`"):
        read(metainfo={})


def test_boxes_of_other_categories_are_counted(read, told):
    data = read(['sky'])
    assert sorted(labels(data)) == [[], ['sky']]
    text = f'{data.ann_file}: 3 boxes of categories that are not in `classes`, left out, such as leaf, rust'
    assert told == [(text, logging.WARNING)]


def test_boxes_are_cut_to_the_image_that_is_read_or_left_out_and_counted(read, content, told):
    boxes = [[30, 20, 99, 99], [50, 2, 9, 9], [3, 3, 0, 9], [9, 9, -3, 4], [4, 4, 0.5, 9], [1, 2, 3, 4]]
    content['annotations'] = [
        dict(id=number, image_id=2, category_id=7, bbox=box, area=9, iscrowd=0) for number, box in enumerate(boxes)
    ]
    found = [instance['bbox'] for info in read() for instance in info['instances']]
    assert found == [[30, 20, 40, 30], [1, 2, 4, 6]]
    ((text, _),) = told
    for what in (
        'beyond the image, cut',
        'outside the image',
        'without area',
        'whose maximum is below',
        'less than a pixel',
    ):
        assert re.search(f'1 boxes [a-z ]*{what}.*such as b.png', text), what


@pytest.mark.parametrize('missing', [False, True])
def test_size_of_the_image_counts_and_a_mismatch_is_told(read, content, told, tmp_path, missing):
    Image.new('RGB', (80, 60)).save(tmp_path / 'a.png')
    content['annotations'][0]['bbox'] = [50, 40, 20, 15]  # outside the stated 40 x 30
    if missing:
        del content['images'][0]['width'], content['images'][0]['height']
    info = next(info for info in read() if info['instances'])
    assert info['instances'][0]['bbox'] == [50, 40, 70, 55] and (info['width'], info['height']) == (80, 60)
    text = 'without their size' if missing else r'another size than stated.*a\.png \(40 x 30, image 80 x 60\)'
    assert re.search(f'1 images (of )?{text}', told[0][0]) and len(told) == 1


@pytest.mark.parametrize('area', [None, 0, -1])
def test_missing_area_is_that_of_the_box(read, content, told, area):
    for item in content['annotations']:
        del item['iscrowd'], item['area']
        if area is not None:
            item['area'] = area
    assert sum(map(len, labels(read()))) == 4
    assert '4 annotations without area, which is that of the box, such as id 1' in told[0][0]


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda c: c['annotations'][1].update(image_id=77), 'annotation 2 has the unknown image_id 77'),
        (lambda c: c['annotations'][1].update(category_id=8), 'annotation 2 has the unknown category_id 8'),
        (lambda c: c['annotations'][1].update(id=1), 'id 1 occurs 2 times in annotations'),
        (lambda c: c['images'][1].update(id=5), 'id 5 occurs 2 times in images'),
        (lambda c: c['categories'][1].update(name='rust'), "name 'rust' occurs 2 times in categories"),
        (
            lambda c: c['annotations'][2].update(bbox=[1, 2, 3]),
            r'annotations\[2\].bbox must be four .* got \[1, 2, 3\]',
        ),
        (lambda c: c['annotations'][2].update(bbox=[1, 2, 3, np.nan]), r'annotations\[2\].bbox must be four numbers'),
        (lambda c: c['annotations'][2].update(bbox=[1, 2, '3', 4]), r'annotations\[2\].bbox must be four numbers'),
        (lambda c: c['annotations'][2].pop('bbox'), r'annotations\[2\] has no bbox'),
        (lambda c: c['images'][1].pop('file_name'), r'images\[1\] has no file_name'),
        (lambda c: c.update(images=[]), "its list 'images' is empty"),
        (lambda c: c.pop('categories'), "needs a list 'categories', got NoneType"),
        (lambda c: c.update(annotations=[]), r'none of its 2 images has a box of'),
        (lambda c: c.pop('annotations'), r'none of its 2 images has a box of'),
    ],
)
def test_contradictions_are_named(read, content, change, text):
    change(content)
    with pytest.raises(ValueError, match=rf'boxes\.json.*{text}'):
        read()


@pytest.mark.parametrize('text', ['', '{', '[]'])
def test_file_of_another_kind_is_named(tmp_path, text):
    (tmp_path / 'boxes.json').write_text(text)
    with pytest.raises(ValueError, match=r'boxes\.json (as JSON|is no COCO file)'):
        CustomCOCO(ann_file=str(tmp_path / 'boxes.json'), pipeline=[])


def test_missing_files_are_counted_and_named(read, tmp_path):
    (tmp_path / 'b.png').unlink()
    with pytest.raises(
        FileNotFoundError, match=rf'1 of the 2 images of .*boxes\.json are not in {tmp_path}, such as b.png'
    ):
        read()
    with pytest.raises(FileNotFoundError, match='no annotation file there.json; check data_root='):
        CustomCOCO(ann_file='there.json', data_root='', pipeline=[])


def test_images_that_are_none_are_named(read, tmp_path):
    (tmp_path / 'b.png').write_text('x')
    with pytest.raises(ValueError, match=r'cannot read the image .*b\.png'):
        read()


def test_images_to_be_tested_need_no_boxes(read, content):
    del content['annotations']
    assert labels(read(test_mode=True)) == [[], []]

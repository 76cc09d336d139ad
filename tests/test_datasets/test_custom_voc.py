"""A folder of VOC files: what is read, what is repaired and counted, what is refused."""

import logging

import cv2
import numpy as np
import pytest

from us3l_mm.datasets.custom_voc import CustomVOC

OBJECT = (
    '<object><name>{}</name><difficult>{}</difficult>'
    '<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)
SIZE = '<size><width>{}</width><height>{}</height><depth>3</depth></size>'
RIGHT = SIZE.format(40, 30)


@pytest.fixture
def add(tmp_path):
    """Add an image of 40 x 30 pixels and its objects (name, x1, y1, x2, y2), counted from 1, to the split."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (tmp_path / folder).mkdir(parents=True)
    listed = tmp_path / 'ImageSets/Main/train.txt'
    listed.touch()

    def add(name, *objects, suffix='.png', size=RIGHT, difficult=0):
        cv2.imwrite(str(tmp_path / f'JPEGImages/{name}{suffix}'), np.full((30, 40, 3), 128, np.uint8))
        text = ''.join(OBJECT.format(label, difficult, *box) for label, *box in objects)
        (tmp_path / f'Annotations/{name}.xml').write_text(f'<annotation>{size}{text}</annotation>')
        listed.write_text(listed.read_text() + f'{name}\n')

    return add


@pytest.fixture
def read(tmp_path):
    def read(classes=('cat', 'dog'), **kwargs):
        split = dict(ann_file='ImageSets/Main/train.txt', data_prefix=dict(sub_data_root=''))
        metainfo = {} if classes is None else dict(classes=classes)
        return CustomVOC(data_root=str(tmp_path), metainfo=metainfo, pipeline=[], **{**split, **kwargs})

    return read


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def caplog(caplog, monkeypatch):
    """mmengine's loggers hand nothing on; with none current it uses the root's."""
    monkeypatch.setattr('us3l_mm.datasets.custom_voc.print_log', lambda text, _, level: logging.log(level, text))
    return caplog


def test_boxes_and_labels_are_those_of_the_files(add, read, caplog):
    add('a', ('dog', 1, 1, 11, 21), ('cat', 5, 6, 40, 30))
    add('b', ('cat', 2, 2, 9, 9), suffix='.JPG', difficult=1)
    first, second = (read()[i] for i in range(2))
    assert [i['bbox'] for i in first['instances']] == [[0, 0, 10, 20], [4, 5, 39, 29]]
    assert [i['bbox_label'] for i in first['instances']] == [1, 0]
    assert [i['ignore_flag'] for i in first['instances'] + second['instances']] == [0, 0, 1]
    assert cv2.imread(second['img_path']).shape == (second['height'], second['width'], 3)
    assert not warnings(caplog)


def test_boxes_are_cut_to_the_image_or_left_out_and_counted(add, read, caplog):
    add('a', ('cat', 5, 5, 5, 20), ('cat', 9, 20, 30, 20), ('cat', 5, 5, 4, 8))  # no width, no height, turned round
    add('b', ('dog', 50, 2, 60, 9), ('dog', -9, 2, 0, 9), ('dog', 30, 20, 99, 99), ('dog', 0, 0, 40, 30))
    boxes = [[instance['bbox'] for instance in info['instances']] for info in read()]
    assert boxes == [[], [[29, 19, 40, 30], [0, 0, 39, 29]]]
    text = '\n'.join(warnings(caplog))
    for count in ('3 boxes without area, left out', '2 boxes outside the image, left out', '1 boxes beyond the image'):
        assert count in text


@pytest.mark.parametrize('size', ['', SIZE.format(0, 0)])
def test_size_of_the_image_where_the_file_has_none(add, read, size):
    add('a', ('cat', 30, 20, 99, 99), size=size)
    info = read()[0]
    assert (info['width'], info['height']) == (40, 30) and info['instances'][0]['bbox'] == [29, 19, 40, 30]


def test_unknown_class_is_an_error_that_lists_both(add, read):
    add('a', ('cat', 1, 1, 9, 9), ('dgo', 1, 1, 9, 9), ('dgo', 2, 2, 9, 9))
    with pytest.raises(ValueError, match=r"unknown classes 'dgo' \(2 objects\); known are 'cat', 'dog'"):
        read()
    assert [i['bbox_label'] for i in read(ignored_classes=['dgo'])[0]['instances']] == [0]


def test_missing_files_are_counted_and_named(add, read, tmp_path):
    for name in 'abc':
        add(name, ('cat', 1, 1, 9, 9))
    (tmp_path / 'Annotations/b.xml').unlink()
    (tmp_path / 'Annotations/c.xml').unlink()
    with pytest.raises(FileNotFoundError, match='2 names of .* have no XML file in .*Annotations, such as b, c'):
        read()
    (tmp_path / 'JPEGImages/a.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 names of .* have no image in .*JPEGImages, such as a'):
        read()


def test_split_without_anything_is_an_error(add, read):
    with pytest.raises(ValueError, match=r'train.txt is empty'):
        read()
    add('a')
    with pytest.raises(ValueError, match=r"none of its 1 images has a box of \['cat', 'dog'\]"):
        read()
    with pytest.raises(FileNotFoundError, match='no .*val.txt.*check data_root='):
        read(ann_file='ImageSets/Main/val.txt')


@pytest.mark.parametrize('text', ['<annotation><size>', '<annotation><object><name>cat</name></object></annotation>'])
def test_broken_xml_is_named(add, read, tmp_path, text):
    add('a', ('cat', 1, 1, 9, 9))
    (tmp_path / 'Annotations/a.xml').write_text(text)
    with pytest.raises(ValueError, match=r'cannot read .*a\.xml'):
        read()


def test_classes_are_needed(add, read):
    add('a', ('cat', 1, 1, 9, 9))
    with pytest.raises(ValueError, match='no classes: set metainfo'):
        read(classes=None)

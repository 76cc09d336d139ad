"""A folder of VOC files: what is read, what is repaired and counted, what is refused."""

import logging
import re

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

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
        return CustomVOC(data_root=str(tmp_path), metainfo=metainfo, **{'pipeline': [], **split, **kwargs})

    return read


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def caplog(caplog, monkeypatch):
    """mmengine's loggers hand nothing on; with none current it uses the root's."""
    monkeypatch.setattr('us3l_mm.datasets.found.print_log', lambda text, _, level: logging.log(level, text))
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
    for count in (
        '2 boxes without area',
        '1 boxes whose maximum is below',
        '2 boxes outside the',
        '1 boxes beyond the',
    ):
        assert count in text
    assert len(warnings(caplog)) == 1 and 'left out, such as b' in text


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


def write_image(folder, name, width, height, orientation=None):
    """An image of ``width`` x ``height`` stored pixels."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new('RGB', (width, height)).save(folder / 'JPEGImages' / name, exif=exif.tobytes())


LOADING = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]


@pytest.mark.parametrize('orientation', [None, 3, 6, 8])
def test_size_of_the_image_as_it_is_read_counts_and_a_mismatch_is_told(add, read, tmp_path, caplog, orientation):
    add('a', ('cat', 6, 6, 60, 30), ('cat', 45, 25, 75, 55), suffix='.jpg')  # beyond and outside the stated 40 x 30
    add('b', ('cat', 1, 1, 40, 30))
    write_image(tmp_path, 'a.jpg', 80, 60, orientation)
    DefaultScope.get_instance('voc', scope_name='mmdet')
    sample = read(pipeline=LOADING)[0]
    height, width = sample['inputs'].shape[1:]
    assert (height, width) == ((60, 80) if orientation in (None, 3) else (80, 60))
    boxes = sample['data_samples'].gt_instances.bboxes.tensor.tolist()
    assert boxes == [[5, 5, 59, 29], [44, 24, min(74, width), 54]]
    (text,) = [text for text in warnings(caplog) if 'train.txt' in text]
    assert (
        f'1 XML files with another size than the image, in whose pixels boxes count, such as a (40 x 30, image {width}'
        in text
    )


@pytest.mark.parametrize(
    ('element', 'place', 'got'),
    [
        (f'<{corner}>{text}</{corner}>', f'<bndbox/{corner}> must be a number', repr(text))
        for corner in ('xmin', 'ymax')
        for text in ('', 'nan', 'inf', '1,5', 'five')
    ]
    + [
        ('<difficult>no</difficult>', '<difficult> must be a number', "'no'"),
        ('<name> </name>', '<name> is missing', ''),
    ],
)
def test_element_without_a_clear_meaning_is_named(add, read, tmp_path, element, place, got):
    add('a', ('cat', 1, 1, 9, 9), ('dog', 2, 3, 8, 9))
    path, tag = tmp_path / 'Annotations/a.xml', element[1 : element.index('>')]
    text = path.read_text()
    start = text.rindex(f'<{tag}>')
    path.write_text(text[:start] + element + text[text.index(f'</{tag}>', start) + len(tag) + 3 :])
    with pytest.raises(ValueError, match=rf'Annotations/a\.xml as a VOC annotation: object 2 .*: {place}.*{got}'):
        read()


@pytest.mark.parametrize('missing', ['bndbox', 'name', 'xmin'])
def test_missing_element_is_named(add, read, tmp_path, missing):
    add('a', ('cat', 1, 1, 9, 9))
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(re.sub(f'<{missing}>.*</{missing}>', '', path.read_text()))
    with pytest.raises(ValueError, match=rf'a\.xml as a VOC annotation: object 1 .*<(bndbox/)?{missing}|bndbox/xmin'):
        read()


def test_all_faulty_files_are_counted_and_three_shown(add, read, tmp_path):
    for name in 'abcd':
        add(name, ('cat', 1, 1, 'x', 9))
    with pytest.raises(ValueError, match=r'4 in all: cannot read .*a\.xml.*; .*b\.xml.*; .*c\.xml') as raised:
        read()
    assert 'd.xml' not in str(raised.value)


@pytest.mark.parametrize('empty', ['<difficult/>', '<difficult></difficult>', '<difficult> </difficult>', ''])
def test_empty_difficult_means_no(add, read, tmp_path, empty):
    add('a', ('cat', 1, 1, 9, 9))
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(path.read_text().replace('<difficult>0</difficult>', empty))
    assert [instance['ignore_flag'] for instance in read()[0]['instances']] == [0]


@pytest.mark.parametrize('size', ['', SIZE.format(0, 0), SIZE.format('', 30)])
def test_missing_size_is_told(add, read, caplog, size):
    add('a', ('cat', 1, 1, 9, 9), size=size)
    assert (read()[0]['width'], read()[0]['height']) == (40, 30)
    assert '1 XML files without the size of the image' in warnings(caplog)[0]


def test_size_that_is_no_number_and_another_root_are_errors(add, read, tmp_path):
    add('a', ('cat', 1, 1, 9, 9), size=SIZE.format('wide', 30))
    with pytest.raises(ValueError, match="<size/width> must be a number, got 'wide'"):
        read()
    (tmp_path / 'Annotations/a.xml').write_text('<html/>')
    with pytest.raises(ValueError, match='outermost element must be <annotation>, got <html>'):
        read()


def test_fractions_of_pixels_are_kept(add, read):
    add('a', ('cat', 1.5, 2.25, 9.75, 9))
    assert read()[0]['instances'][0]['bbox'] == [0.5, 1.25, 8.75, 8]


def test_small_boxes_are_ignored_on_demand(add, read):
    add('a', ('cat', 1, 1, 9, 9), ('cat', 1, 1, 20, 20))
    boxes = read(filter_cfg=dict(bbox_min_size=10))[0]['instances']
    assert [box['ignore_flag'] for box in boxes] == [1, 0]


@pytest.mark.parametrize('text', ['\ufeffa b\r\nc\r\n', '\n a b \n\nc\t\n'])
def test_list_of_any_editor_is_read(add, read, tmp_path, text):
    add('a b', ('cat', 1, 1, 9, 9))
    add('c', ('cat', 1, 1, 9, 9))
    (tmp_path / 'ImageSets/Main/train.txt').write_bytes(text.encode())
    assert [info['img_id'] for info in read()] == ['a b', 'c']


@pytest.mark.parametrize('number', [1, -1, 0])
def test_list_of_a_class_is_refused(add, read, tmp_path, number):
    add('a', ('cat', 1, 1, 9, 9))
    (tmp_path / 'ImageSets/Main/cat_train.txt').write_text(f'a  {number}\n')
    with pytest.raises(ValueError, match=rf"cat_train.txt is a list for one class, with lines such as 'a  {number}'"):
        read(ann_file='ImageSets/Main/cat_train.txt')
    add(f'a {number}', ('dog', 1, 1, 9, 9))  # a name may end so
    assert [info['img_id'] for info in read()] == ['a', f'a {number}']


def test_names_and_files_that_occur_twice_are_told(add, read, caplog):
    add('a', ('cat', 1, 1, 9, 9))
    add('a', ('cat', 1, 1, 9, 9), suffix='.jpg')
    (info,) = read()
    assert info['img_path'].endswith('a.jpg')
    (text,) = warnings(caplog)
    assert '1 names that stand there more than once' in text and '1 names of several files in JPEGImages' in text


def test_image_that_is_none_is_named(add, read, tmp_path):
    add('a', ('cat', 1, 1, 9, 9))
    (tmp_path / 'JPEGImages/a.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'cannot read the image .*JPEGImages/a\.png'):
        read()

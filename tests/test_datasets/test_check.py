"""The look at data sets before a training: one test for each thing that may be wrong, on tiny sets."""

import os
import shutil

import numpy as np
import pytest
from mmdet.datasets import VOCDataset
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmpretrain.datasets import CustomDataset
from PIL import Image

from us3l_mm.datasets import IMAGE_EXTENSIONS, ClassFolders, Digits
from us3l_mm.datasets.check import annotation_findings, build_error, check_data
from us3l_mm.datasets.custom_voc import CustomVOC

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')
CLASSES = ('cat', 'dog')
count = iter(range(10**6))


def save(path, size=(20, 16), mode='RGB', **options):
    """Write an image of noise; no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(next(count))
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of two images in each of two splits."""
    for split in ('train', 'val'):
        for name in CLASSES:
            for number in range(2):
                save(tmp_path / split / name / f'{number}.png')
    return tmp_path


def class_folders(folder, split, **options):
    return ClassFolders(data_root=str(folder), data_prefix=split, folders=options.pop('folders', CLASSES), **options)


def unlabelled(folder, **options):
    return CustomDataset(data_root=str(folder), with_label=False, **options)


def check(folder, sample=0, **options):
    """Findings in labelled folders by what they say, with the names of files and classes."""
    found = check_data({split: class_folders(folder, split) for split in ('train', 'val')}, sample, **options)[1]
    return by_text(found)


def by_text(found):
    return {
        (each.level, each.split, each.what): [(os.path.basename(name), more) for name, more in each.names]
        for each in found
    }


def only(found):
    """The one finding: level, split, text, names."""
    ((key, names),) = found.items()
    return *key, [name for name, _ in names]


def test_sound_set_has_no_findings_and_is_counted(folder):
    save(folder / 'val/cat/long.png', (60, 10))
    splits, found = check_data({split: class_folders(folder, split) for split in ('train', 'val')}, 0)
    assert not found and [split.images for split in splits] == [4, 5]
    assert splits[1].count == {'cat': 3, 'dog': 2} and splits[1].sizes == [(20, 16)] * 4 + [(60, 10)]


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [
        (lambda data: b'', 'the file is empty'),
        (lambda data: data[: len(data) // 2], 'cut off'),
        (lambda data: b'text', 'no image of a known format'),
    ],
)
def test_images_that_cannot_be_read_are_named_with_the_reason(folder, spoil, reason):
    path = save(folder / 'val/dog/bad.jpg', (64, 64))
    path.write_bytes(spoil(path.read_bytes()))
    found = check(folder)
    assert only(found) == ('error', 'val', 'images that cannot be read', ['bad.jpg'])
    ((_, told),) = next(iter(found.values()))
    assert reason in told


def test_bad_images_that_training_skips_are_warnings(folder):
    (folder / 'train/dog/bad.jpg').write_text('text')
    loading = dict(type='LoadImageFromFile', _scope_='us3l_mm', on_bad_image='skip')
    _, found = check_data({'train': class_folders(folder, 'train', pipeline=[loading])})
    assert only(by_text(found)) == ('warning', 'train', 'images that cannot be read', ['bad.jpg'])


def odd_file(path, kind):
    image = Image.open(save(path))
    if kind == '16 bits':
        Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20) * 200).save(path)
    elif kind == 'CMYK':
        image.convert('CMYK').save(path.with_suffix('.jpg'))
        path.unlink()
    elif kind == 'several images':
        image.save(path, save_all=True, append_images=[image.rotate(180)], default_image=False)
    elif kind == 'transparent':
        image.putalpha(200)
        image.save(path)
    elif kind == 'single colour':
        Image.new('RGB', (20, 16), 'red').save(path)
    else:
        save(path, {'side under': (20, 7), 'times as long': (200, 16)}[kind])


@pytest.mark.parametrize(
    'kind', ['16 bits', 'CMYK', 'several images', 'transparent', 'single colour', 'side under', 'times as long']
)
def test_odd_images_are_named(folder, kind):
    odd_file(folder / 'train/cat/odd.png', kind)
    level, split, what, (name,) = only(check(folder))
    assert (level, split, name[:3]) == ('warning', 'train', 'odd') and kind in what


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', '1'])
def test_what_loads_without_loss_is_not_odd(folder, mode):
    save(folder / 'train/cat/more.png', mode=mode)
    assert not check(folder)


def test_grey_matters_only_where_splits_differ(folder):
    assert not check(folder)
    for path in (folder / 'val').rglob('*.png'):
        save(path, mode='L')
    level, split, what, names = only(check(folder))
    assert (level, split, names) == ('warning', 'train, val', ['train', 'val']) and 'grey' in what
    for path in (folder / 'train').rglob('*.png'):
        save(path, mode='L')
    assert not check(folder)


def test_files_that_are_left_out_are_named_by_their_kind(folder):
    cat = folder / 'train/cat'
    (cat / 'gone.jpg').symlink_to('nowhere')
    os.mkfifo(cat / 'pipe.png')
    (cat / 'notes.txt').write_text('text')
    (cat / '.hidden').write_text('text')
    save(folder / 'train/outside.png')
    names = {what: names for (_, _, what), names in check(folder).items()}
    for text, name in {
        'links to files': 'gone.jpg',
        'pipes': 'pipe.png',
        'other extensions': 'notes.txt',
        'outside the folders': 'outside.png',
    }.items():
        (what,) = [what for what in names if text in what]
        assert names.pop(what) == [(name, '')]
    assert not names


def test_extensions_of_images_that_the_set_leaves_out_are_told_with_the_fix(folder):
    save(folder / 'train/cat/a.webp', lossless=True)
    assert not check(folder)  # ClassFolders takes all that load
    _, (found,) = check_data({'train': unlabelled(folder / 'train')})
    assert found.what == 'images of extensions that the data set leaves out' and found.names[0][0].endswith('a.webp')
    assert 'us3l_mm.datasets.IMAGE_EXTENSIONS' in found.fix
    (split,), found = check_data({'train': unlabelled(folder / 'train', extensions=IMAGE_EXTENSIONS)})
    assert not found and split.images == 5


def test_copies_within_a_split_and_between_two_are_told(folder):
    shutil.copy(folder / 'train/cat/0.png', folder / 'train/dog/copy.png')
    assert only(check(folder)) == ('warning', 'train', 'images with the same bytes as another', ['copy.png'])
    shutil.move(folder / 'train/dog/copy.png', folder / 'val/dog/copy.png')
    found = check(folder)
    assert only(found) == ('warning', 'train, val', 'images with the same bytes in both splits', ['copy.png'])
    assert next(iter(found.values()))[0][1] == f'the same as {folder}/train/cat/0.png'


def test_files_of_one_size_or_of_one_end_are_no_copies(folder):
    data = bytearray(save(folder / 'train/cat/a.bmp', (64, 64)).read_bytes())
    data[60] ^= 1
    (folder / 'val/cat/b.bmp').write_bytes(data)
    assert not check(folder)


def test_copy_of_a_sampled_image_is_found_outside_the_sample(folder):
    for number in range(30):
        save(folder / f'train/cat/more{number}.png')
    train = class_folders(folder, 'train')
    (split,), _ = check_data({'train': train}, sample=1)
    (path,) = split.sampled
    shutil.copy(path, folder / 'val/dog/copy.png')
    assert only(check(folder, sample=1))[2] == 'images with the same bytes in both splits'


def test_one_file_in_both_splits_is_a_leak(folder):
    same = {'train': class_folders(folder, 'train'), 'val': class_folders(folder, 'train')}
    assert only(by_text(check_data(same)[1]))[:3] == ('warning', 'train, val', 'images in both splits')


def test_repeated_and_joined_sets_count_each_image_once(folder):
    parts = [class_folders(folder, split) for split in ('train', 'val')]
    (folder / 'val/cat/notes.txt').write_text('text')
    for dataset, images in ((ConcatDataset(parts), 8), (RepeatDataset(parts[1], 3), 4)):
        (split,), found = check_data({'train': dataset}, 0)
        assert split.images == len(split.sampled) == images and split.count == dict.fromkeys(CLASSES, images // 2)
        assert only(by_text(found))[3] == ['notes.txt']


def test_classes_that_differ_by_number_are_errors_by_name(folder):
    datasets = {
        'train': class_folders(folder, 'train'),
        'val': class_folders(folder, 'val', folders=['dog', 'cat']),
    }
    level, split, _, names = only(by_text(check_data(datasets)[1]))
    assert (level, split, names) == ('error', 'train, val', ['dog', 'cat'])
    (folder / 'val/cat').rename(folder / 'val/catt')
    datasets['val'] = class_folders(folder, 'val', folders=['catt', 'dog'])
    (error, missing) = check_data(datasets)[1]
    assert error.names == [('catt', 'label 0, which is cat in train')] and "did you mean 'cat'?" in error.fix
    assert missing.names == [('cat', '')]


def test_class_that_a_split_lacks_is_a_warning_by_name(folder):
    shutil.rmtree(folder / 'val/dog')
    assert only(check(folder)) == ('warning', 'val', 'classes without an image or a box', ['dog'])


def test_labels_without_a_class_are_errors(folder):
    (folder / 'list.txt').write_text('cat/0.png 0\ndog/0.png 2\n')
    options = dict(data_root=str(folder), data_prefix='train', ann_file='list.txt', metainfo=dict(classes=CLASSES))
    found = by_text(check_data({'train': CustomDataset(**options)})[1])
    assert found[('error', 'train', 'labels that are no class')] == [('0.png', 'label 2')]


def test_large_sets_are_looked_at_by_a_sample_alone(folder):
    (folder / 'train/cat/notes.txt').write_text('text')
    (split,), found = check_data({'train': class_folders(folder, 'train')}, sample=2, most_entries=3)
    assert not found and split.images == 4 and len(split.sampled) == len(split.paths) == 2
    assert check(folder, most_entries=4)


def test_sample_is_the_same_every_time(folder):
    train = class_folders(folder, 'train')
    samples = [check_data({'train': train}, sample=2)[0][0].sampled for _ in range(2)]
    assert samples[0] == samples[1] and len(samples[0]) == 2


def test_sets_without_files_are_left_out(folder):
    assert check_data({'train': Digits(split='train')}) == ([], [])


# Detection


BOXES = {
    'good': (2, 2, 10, 10),
    'boxes without area': (5, 5, 5, 10),
    'boxes whose maximum is below their minimum': (10, 5, 5, 10),
    'boxes outside the image': (30, 2, 35, 10),
    'boxes beyond the image': (10, 2, 28, 10),
}


def voc(folder, boxes, stated=(20, 16), kind=CustomVOC):
    """A set of two images, of which the second one has the boxes; the first one has the good box."""
    xml = folder / 'VOC2007/Annotations'
    xml.mkdir(parents=True)
    for name, own in (('first', [BOXES['good']]), ('second', boxes)):
        save(folder / f'VOC2007/JPEGImages/{name}.jpg')
        objects = ''.join(
            f'<object><name>cat</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>'
            f'<xmax>{x2 + 1}</xmax><ymax>{y2 + 1}</ymax></bndbox></object>'
            for x1, y1, x2, y2 in own
        )
        size = (20, 16) if name == 'first' else stated
        text = f'<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>'
        (xml / f'{name}.xml').write_text(text)
    (folder / 'VOC2007/list.txt').write_text('first\nsecond\n')
    return kind(
        data_root=str(folder),
        ann_file='VOC2007/list.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        metainfo=dict(classes=('cat',)),
        pipeline=[],
    )


@pytest.mark.parametrize('kind', [CustomVOC, VOCDataset])
@pytest.mark.parametrize('what', BOXES)
def test_boxes_that_do_not_fit_are_named_with_their_corners(tmp_path, what, kind):
    dataset = voc(tmp_path, [BOXES['good'], BOXES[what]], kind=kind)
    found = [*annotation_findings('train', dataset), *check_data({'train': dataset})[1]]
    if what == 'good':
        assert not found
        return
    ((level, split, told), ((name, corners),)) = next(iter(by_text(found).items()))
    assert len(found) == 1 and told.startswith(what) and split == 'train'
    assert level == ('warning' if 'beyond' in what else 'error')
    assert name.startswith('second') and corners == '{}, {}, {}, {}'.format(*BOXES[what])


@pytest.mark.parametrize('kind', [CustomVOC, VOCDataset])
def test_annotation_for_an_image_of_another_size_is_named(tmp_path, kind):
    dataset = voc(tmp_path, [BOXES['good']], stated=(40, 32), kind=kind)
    found = [*annotation_findings('train', dataset), *check_data({'train': dataset})[1]]
    ((level, _, what), ((name, sizes),)) = next(iter(by_text(found).items()))
    assert len(found) == 1 and level == 'warning' and 'another size than' in what
    assert name.startswith('second') and sizes == '40 x 32, image 20 x 16'


def test_images_without_boxes_are_counted(tmp_path):
    (split,), found = check_data({'train': voc(tmp_path, [])})
    assert not found and split.boxes == 1 and split.count == {'cat': 1}
    assert [os.path.basename(path) for path in split.without_boxes] == ['second.jpg']


def test_faults_that_stop_a_set_are_all_named(tmp_path):
    voc(tmp_path, [])
    names = [f'name{number}' for number in range(5)]
    for name in names:
        save(tmp_path / f'VOC2007/JPEGImages/{name}.jpg')
        (tmp_path / f'VOC2007/Annotations/{name}.xml').touch()
    (tmp_path / 'VOC2007/list.txt').write_text('\n'.join(names))
    options = dict(data_root=str(tmp_path), data_prefix=dict(sub_data_root='VOC2007/'), pipeline=[])
    with pytest.raises(ValueError, match='5 in all') as raised:
        CustomVOC(ann_file='VOC2007/list.txt', metainfo=dict(classes=('cat',)), **options)
    finding = build_error('train', raised.value, [])
    assert finding.level == 'error' and len(finding.names) == 5
    assert all(f'{name}.xml' in fault for name, (fault, _) in zip(names, finding.names))


def test_empty_annotation_file_is_named(tmp_path):
    (tmp_path / 'empty.txt').touch()
    finding = build_error('val', ValueError('need at least one array'), [str(tmp_path / 'empty.txt')])
    assert (finding.what, finding.names) == ('empty annotation files', [(str(tmp_path / 'empty.txt'), '')])

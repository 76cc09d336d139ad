"""docs/your_own_data.md: its commands, one after the other, on small sets made from scikit-learn's photographs."""

import json
import re
import shlex

import numpy as np
import onnxruntime
import pytest
from mmdet.apis import DetInferencer
from mmengine.registry import init_default_scope
from PIL import Image
from sklearn.datasets import load_sample_images

from builders import ROOT, load_script

pytestmark = pytest.mark.slow
# What is smaller here than on the page.
SMALLER = {
    '--image-size 64': '--image-size 32',
    '--epochs 100 --batch-size 64': '--epochs 4 --batch-size 8',
    'photos/epoch_100': 'photos/epoch_4',
    '--work-dir work_dirs/photos_probe': '--epochs 4 --work-dir work_dirs/photos_probe',
    'photos_probe/epoch_100': 'photos_probe/epoch_4',
    '--epochs 24': '--epochs 2',
    'epoch_24': 'epoch_2',
    '100M': '20M',
}


def crop(draw, image, height, width):
    top, left = (draw.integers(size - side) for size, side in zip(image.shape, (height, width)))
    return Image.fromarray(image[top : top + height, left : left + width])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The folders that the page names: photos, labelled and boxes."""
    root, draw = tmp_path_factory.mktemp('my data'), np.random.default_rng(0)
    photographs = dict(zip(('china', 'flower'), load_sample_images().images))
    for name in ('photos/sub/deep', 'labelled', 'boxes/images'):
        (root / name).mkdir(parents=True)
    for index in range(24):
        image = crop(draw, photographs[('china', 'flower')[index % 2]], *draw.integers(40, 100, 2))
        mode, suffix = [('RGB', 'jpg'), ('L', 'png'), ('RGBA', 'webp'), ('P', 'gif')][index % 4]
        image.convert(mode).save(root / 'photos' / ('sub/deep' if index % 5 == 0 else '') / f'{index}.{suffix}')
    for split, count in (('train', 6), ('val', 3)):
        boxes = dict(images=[], annotations=[], categories=[dict(id=4, name='flower')])
        for index in range(count):
            for name, image in photographs.items():
                path = root / 'labelled' / split / name / f'{index}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                crop(draw, image, 60, 80).save(path)
            scene = crop(draw, photographs['china'], 48, 64)
            scene.paste(crop(draw, photographs['flower'], 20, 24), (10, 12))
            scene.save(root / 'boxes' / 'images' / f'{split}{index}.jpg')
            boxes['images'].append(dict(id=index, file_name=f'{split}{index}.jpg', width=64, height=48))
            boxes['annotations'].append(dict(id=index, image_id=index, category_id=4, bbox=[10, 12, 24, 20], area=480))
        (root / 'boxes' / f'{split}.json').write_text(json.dumps(boxes))
    return root


def commands():
    """The commands of the page, each a list of words."""
    blocks = re.findall(r'```bash\n(.*?)```', (ROOT / 'docs/your_own_data.md').read_text(), re.DOTALL)
    text = '\n'.join(blocks)
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    return [shlex.split(line) for line in text.splitlines() if line.startswith('us3l ')]


def test_page_leads_from_a_folder_to_onnx_and_to_a_detector(folder, run_tool, capsys):
    found, tools = commands(), load_script('us3l').find_tools()
    assert len(found) == 9
    for words in found:
        moved = [
            re.sub(r'^(photos|labelled|boxes|drawn|check|work_dirs)\b', f'{folder}/\\1', word) for word in words[2:]
        ]
        if '--work-dir' not in moved and words[1] == 'test':
            moved += ['--work-dir', f'{folder}/work_dirs/test']
        run_tool(tools[words[1]].stem, *moved)
    told = capsys.readouterr().out
    work = folder / 'work_dirs'

    checked = json.loads((folder / 'check/check.json').read_text())
    assert checked['splits'] and (folder / 'check/samples_train.png').is_file()

    probe = json.loads((work / 'photos_probe/linear_probe.json').read_text())
    assert [row['width'] for row in probe['widths']] == [1.0, 0.75, 0.5, 0.25]
    assert all('top5' not in row and 0 <= row['top1'] <= 100 for row in probe['widths'])  # of 2 classes

    chosen = re.search(r'^chosen: width (\S+)\. Next: us3l (.*)$', told, re.MULTILINE)
    assert float(chosen[1]) == 0.5  # 9.9 MMACs at 32 pixels, where 0.75 has 21
    assert '--input' not in chosen[2] or '--input 32' in chosen[2]

    (onnx,) = (work / 'photos_probe').glob('*.onnx')
    session = onnxruntime.InferenceSession(str(onnx))
    (images,) = session.get_inputs()
    assert images.shape[1:] == [3, 32, 32]
    scores = session.run(None, {images.name: np.zeros((1, 3, 32, 32), np.float32)})[0]
    assert scores.shape == (1, 2)

    assert len(list((folder / 'drawn').iterdir())) == 3
    config, weights = (next((work / 'boxes').glob(f'epoch_2_*stock.{suffix}')) for suffix in ('py', 'pth'))
    init_default_scope('mmdet')
    result = DetInferencer(str(config), str(weights), device='cpu', show_progress=False)(
        str(folder / 'boxes/images/val0.jpg')
    )
    assert set(result['predictions'][0]['labels']) <= {0}

"""Write model-index.yml and the metafile.yml of each folder of configs, which mmengine, mmpretrain and mim read.

python tools/dev/write_metafiles.py

Results are those that the docstring of a config gives behind "Result:"; tests/test_configs.py compares them.
"""

import ast
import re
from pathlib import Path

import yaml
from mmengine.config import Config

from us3l_mm.config import find_datasets

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = dict(
    us3l='US3L', baselines='Methods compared with US3L', linear='Linear evaluation', det='Detection', digits='Digits'
)
PAPER = dict(
    Title='Three Guidelines You Should Know for Universally Slimmable Self-Supervised Learning',
    URL='https://arxiv.org/abs/2303.06870',
)
TASKS = {
    'box AP': ('Object Detection', 'box AP'),
    'logistic regression on frozen features': ('Logistic Regression on Frozen Features', 'Top 1 Accuracy'),
}
RESULT = re.compile(r'Result: (.*?) \(%\)[^:]*: ([\d., and]+) at widths ([\d., and]+\d)')
NUMBER = re.compile(r'\d+\.\d+')


def results(text: str, dataset: str) -> list[dict]:
    """What the docstring of a config says was measured."""
    found = RESULT.search(' '.join(text.split()))  # over the ends of lines
    if found is None:
        return []
    measured, *series = found.groups()
    values, widths = (list(map(float, NUMBER.findall(part))) for part in series)
    task, metric = TASKS[measured]
    return [dict(Task=task, Dataset=dataset, Metrics={f'{metric} at width {w:g}': v for w, v in zip(widths, values)})]


def entry(path: Path, folder: str) -> dict:
    """Model of a config."""
    cfg, text = Config.fromfile(path), ast.get_docstring(ast.parse(path.read_text()))
    dataset = next(found.type for _, found in find_datasets(cfg, ['train_dataloader'])).rpartition('.')[2]
    if folder == 'det' and path.parent.name == 'digits':
        dataset = 'Digit scenes'  # a folder in COCO's format
    gpus = re.search(r'(\d+) GPUs? of', text) or re.search(r'_(\d+)xb\d', path.stem)
    epochs = cfg.train_cfg.get('max_epochs')
    about = {
        'Name': f'us3l_mm_{path.stem}',
        'In Collection': COLLECTIONS[folder],
        'Metadata': {
            'Training Data': dataset,
            **({'Epochs': epochs} if epochs else {'Iterations': cfg.train_cfg.max_iters}),
            'Batch Size': cfg.train_dataloader.batch_size * int(gpus[1]),
        },
        'Config': f'configs/{path.parent.name}/{path.name}',
    }
    measured = results(text, dataset)
    return {**about, 'Results': measured} if measured else about


def main() -> None:
    configs = ROOT / 'configs'
    for folder, name in COLLECTIONS.items():
        paths = [path for path in sorted(configs.glob('[!_]*/[!_]*.py')) if path.parent.name in COLLECTIONS]
        # mmpretrain's get_model builds all but the detectors, so those on digits are with the other detectors.
        paths = [p for p in paths if folder == ('det' if 'retinanet_' in p.name else p.parent.name)]
        collection = dict(
            Name=name, README=f'configs/{folder}/README.md', **(dict(Paper=PAPER) if name == 'US3L' else {})
        )
        index = dict(Collections=[collection], Models=[entry(path, folder) for path in paths])
        (configs / folder / 'metafile.yml').write_text(yaml.safe_dump(index, sort_keys=False, width=120))
    imports = dict(Import=[f'configs/{folder}/metafile.yml' for folder in COLLECTIONS])
    (ROOT / 'model-index.yml').write_text(yaml.safe_dump(imports))


if __name__ == '__main__':
    main()

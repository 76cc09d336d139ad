"""Write down, bit for bit, what a checkout computes, to see that a change of its code changes no result.

python tools/dev/snapshot.py ROOT --out A.json                  # all; --only SUBSTR ... for items named like that
python tools/dev/snapshot.py --compare A.json B.json            # exits with 1 if anything differs

Files are found by name, so that both may have moved configs and tools. What a step wrote is used again after an
interruption, unless a source file of ROOT changed. Compare snapshots of one machine and one environment only.
"""

import argparse
import hashlib
import importlib.util
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, Runner

US3L, BYOL, SNET = 'r18_1xb64-16e_digits', 'byol_r18_1xb64-2e_digits', 'snet-simclr_r18_1xb64-2e_digits'
USNET = 'usnet_r18_1xb64-2e_digits'
DETECTOR, ALL_WIDTHS = 'retinanet_r18-fpn_1xb4-10e_digits', 'slimmable-retinanet_r18-fpn_1xb4-10e_digits'
PROBES = {'r18_1xb128-20e_digits': US3L, 'snet_r18_1xb128-20e_digits': SNET}
WIDTHS, PARTS = ('1.0', '0.75', '0.5', '0.3', '0.25'), 'layer3=0.5,layer4=0.75'
MEASURED = ('time', 'data_time', 'memory', 'eta', 'latency')  # no two runs agree on these
CONFIG_KEYS = (*inspect.signature(Runner).parameters, 'classes', 'data_root', 'input_size', 'width')
SOURCES = dict(us3l=US3L, probe='r18_1xb128-20e_digits', usnet=USNET, retinanet=DETECTOR, slimmable=ALL_WIDTHS)
EXPORTS = [('us3l', '0.5', kind) for kind in ('dense', 'stock', 'onnx', 'torch-export')]
EXPORTS += [('us3l', '0.3', 'dense'), ('us3l', PARTS, 'dense')]
EXPORTS += [(name, '0.5', 'dense') for name in SOURCES if name != 'us3l']


def digest(value: object) -> str:
    """sha256 of tensors, numbers and texts in dicts and lists; the order of a dict's keys does not count."""
    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        value = (value.dtype, tuple(value.shape), hashlib.sha256(data).hexdigest())
    elif isinstance(value, dict):
        value = {key: digest(value[key]) for key in sorted(value, key=str)}
    elif isinstance(value, (list, tuple)):
        value = [digest(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def weights(path: Path) -> dict:
    """Hashes of what a checkpoint holds."""
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    more = dict(optimizer=digest(loaded['optimizer'])) if 'optimizer' in loaded else {}
    return dict(keys=digest(sorted(loaded['state_dict'])), state=digest(loaded['state_dict']), **more)


def without_measured(entry: dict) -> dict:
    return {key: value for key, value in entry.items() if not key.startswith(MEASURED)}


def training(path: Path) -> dict:
    """Of a training the last checkpoint, and its log: losses, learning rates and accuracies."""
    (log,) = path.parent.glob('*/vis_data/scalars.json')
    lines = [without_measured(json.loads(line)) for line in log.read_text().splitlines()]
    found = dict(weights(path), losses=digest(lines), last=lines[-1])
    probe = path.with_name('linear_probe.json')
    return dict(found, widths=json.loads(probe.read_text())['widths']) if probe.exists() else found


def fingerprint(root: Path) -> str:
    """Hash of all sources that can change a result."""
    files = {path for name in ('configs', 'tools', 'us3l_mm') for path in (root / name).rglob('*.py')}
    return digest([(str(path), path.read_bytes()) for path in sorted(files - {Path(__file__).resolve()})])[:16]


class Checkout:
    """What the checkout at ``root`` computes; all its files go to ``work``. A method makes what it needs, once."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work

    def find(self, folder: str, name: str) -> str:
        """The file of that name anywhere below a folder, relative to the checkout."""
        found = sorted(self.root.joinpath(folder).rglob(name))
        if len(found) != 1:
            raise FileNotFoundError(f'one file {name} is wanted below {folder}, found {found}')
        return str(found[0].relative_to(self.root))

    def config(self, stem: str) -> str:
        return self.find('configs', f'{stem}.py')

    def run(self, step: str, tool: str, *args: str | Path) -> Path:
        """Run a tool unless it has run so; ``{out}`` in its arguments is its folder, which is returned."""
        folder = self.work / step
        command = [self.find('tools', f'{tool}.py'), *(str(arg).replace('{out}', str(folder)) for arg in args)]
        done = folder / 'done'
        if done.exists() and done.read_text() == shlex.join(command):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        env = {**os.environ, 'PYTHONPATH': str(self.root), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        log = folder / 'log.txt'
        with log.open('w') as file:
            code = subprocess.call([sys.executable, *command], env=env, cwd=self.root, stdout=file, stderr=file)
        if code:
            raise RuntimeError(f'{tool} failed, see {log}: {log.read_text().splitlines()[-1:]}')
        done.write_text(shlex.join(command))
        return folder

    def options(self, cfg: Config, *options: str) -> list[str]:
        """``--cfg-options``, with those that name the data of a detector."""
        if cfg.default_scope == 'mmdet':
            scenes = self.run('scenes', 'make_digit_scenes', '{out}/scenes') / 'scenes'
            splits = [split for split in ('train', 'val', 'test') if cfg.get(f'{split}_dataloader')]
            options = [*options, *(f'{split}_dataloader.dataset.data_root={scenes}/' for split in splits)]
        return ['--cfg-options', *options] if options else []

    def train(self, stem: str, width: str | None = None) -> Path:
        """Checkpoint after 60 to 88 iterations; dynamic sampling passes through its four stages."""
        cfg = Config.fromfile(self.config(stem))
        epochs = 1 if cfg.default_scope == 'mmdet' else 4 if cfg.model.get('sampler', {}).get('dynamic') else 3
        options = [f'train_cfg.max_epochs={epochs}', 'default_hooks.logger.interval=5']
        if 'teacher' in cfg.model:
            options += [f'model.teacher.checkpoint={self.train(BYOL)}']
        if cfg.default_scope == 'mmdet':
            options += [f'model.backbone.init_cfg.checkpoint={self.calibrate(US3L)}']
        name, at = (stem, []) if width is None else (f'{stem}@{width}', ['--width', width])
        args = [self.config(stem), *at, '--work-dir', '{out}', *self.options(cfg, *options)]
        return self.run(f'train/{name}', 'train', *args) / f'epoch_{epochs}.pth'

    def calibrate(self, stem: str) -> Path:
        options = self.options(Config.fromfile(self.config(stem)))
        widths = (*WIDTHS, PARTS) if stem == US3L else WIDTHS
        args = [self.config(stem), self.train(stem), '--widths', *widths, '--out', '{out}/calibrated.pth', *options]
        return self.run(f'calibrate/{stem}', 'calibrate_bn', *args) / 'calibrated.pth'

    def probe(self, stem: str) -> Path:
        source = self.train(SNET) if PROBES[stem] == SNET else self.calibrate(PROBES[stem])
        args = [self.config(stem), source, '--work-dir', '{out}', '--cfg-options', 'train_cfg.max_epochs=2']
        return self.run(f'probe/{stem}', 'linear_probe', *args) / 'epoch_2.pth'

    def trained(self, stem: str, width: str) -> Path:
        """Checkpoint to test and to export: of several widths a calibrated one."""
        finish = self.probe if stem in PROBES else self.calibrate
        return self.train(stem, width) if stem == DETECTOR else finish(stem)

    def test_item(self, stem: str, width: str | None) -> dict:
        options = self.options(Config.fromfile(self.config(stem)))
        at = ['--width', width] if stem == DETECTOR else ['--widths', *WIDTHS] if stem == ALL_WIDTHS else []
        args = [self.config(stem), self.trained(stem, width), '--work-dir', '{out}', *at, *options]
        (file,) = self.run(f'test/{stem}', 'test', *args).glob('widths.json' if stem == ALL_WIDTHS else '*/*.json')
        found = json.loads(file.read_text())
        return dict(metrics=[without_measured(row) for row in found.get('widths', [found])])

    def export_item(self, source: str, width: str, kind: str) -> dict:
        if kind == 'onnx' and not all(map(importlib.util.find_spec, ('onnx', 'onnxscript', 'onnxruntime'))):
            return dict(skipped='onnx, onnxscript or onnxruntime is missing')
        stem, size = SOURCES[source], ['--input', '16'] if kind in ('onnx', 'torch-export') else []
        args = [self.config(stem), self.trained(stem, width), '--width', width, '--format', kind, '--out', '{out}/net']
        folder = self.run(f'export/{source}-{width}-{kind}', 'export_width', *args, *size)
        if size:
            return dict(outputs=digest(program_outputs(folder, kind)))
        model = Config.fromfile(folder / 'net.py', import_custom_modules=False).model.to_dict()
        text = json.dumps(model, sort_keys=True, default=str).replace(str(self.work), 'WORK')
        return dict(weights(folder / 'net.pth'), model=json.loads(text))

    def load_config(self, path: Path) -> Config:
        """Config as the tools of this checkout read it."""
        # Not by trying an import: an editable installation elsewhere lends modules that this checkout lacks.
        place = 'us3l_mm.config' if (self.root / 'us3l_mm/config').is_dir() else 'us3l_mm.engine'
        options = dict(classes=['cat']) if 'custom' in path.stem else None
        return importlib.import_module(place).load_config(str(path), options)

    def keys_item(self, path: Path) -> dict:
        """Names, types and shapes of the state of the model in a config."""
        as_is = {'new': lambda tensor, *_, **__: tensor}  # random weights take seconds
        with patch.object(torch.Tensor, 'uniform_', **as_is), patch.object(torch.Tensor, 'normal_', **as_is):
            cfg = self.load_config(path)
            with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
                state = registry.build(cfg.model).state_dict()
        return dict(count=len(state), keys=digest({k: (str(v.dtype), tuple(v.shape)) for k, v in state.items()}))

    def config_item(self, path: Path) -> dict:
        """Hash of each entry of a config that the Runner or a tool reads."""
        cfg = self.load_config(path).to_dict()
        return {key: digest(cfg[key]) for key in CONFIG_KEYS if key in cfg}

    def items(self) -> Iterator[tuple[str, Callable[[], dict]]]:
        """Name of each item, and what computes it."""
        paths = sorted(self.root.joinpath('configs').rglob('*.py'), key=lambda path: path.name)
        paths = [path for path in paths if not {'_base_', 'tables'} & set(path.relative_to(self.root).parts)]
        for path in paths:
            yield f'keys/{path.stem}', partial(self.keys_item, path)
            yield f'configs/{path.stem}', partial(self.config_item, path)
        stems = [path.stem for path in paths if path.stem.endswith('_digits') and path.stem not in PROBES]
        for stem in sorted(stems, key=lambda stem: (stem not in (US3L, BYOL), 'retinanet' in stem, stem)):
            cfg = Config.fromfile(self.config(stem))
            yield f'train/{stem}', lambda stem=stem: training(self.train(stem))
            if cfg.get('width') is not None or cfg.model.backbone.get('width') is not None:
                yield f'train/{stem}@0.5', lambda stem=stem: training(self.train(stem, '0.5'))
        for stem in (US3L, USNET, ALL_WIDTHS):
            yield f'calibrate/{stem}', lambda stem=stem: weights(self.calibrate(stem))
        for stem in PROBES:
            yield f'probe/{stem}', lambda stem=stem: training(self.probe(stem))
        for stem in (USNET, DETECTOR, ALL_WIDTHS):
            yield f'test/{stem}', partial(self.test_item, stem, '0.5')
        for export in EXPORTS:
            yield f'export/{"-".join(export)}', partial(self.export_item, *export)


@torch.no_grad()
def program_outputs(folder: Path, kind: str) -> list[torch.Tensor]:
    """Outputs of an exported program for fixed random images."""
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    if kind == 'torch-export':
        return list(torch.export.load(folder / 'net.pt2').module()(images))  # feature maps
    onnxruntime = importlib.import_module('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / 'net.onnx', options, providers=['CPUExecutionProvider'])
    return [torch.from_numpy(array) for array in session.run(None, {'images': images.numpy()})]


def flat(value: object, name: str = '') -> dict[str, object]:
    """Leaves of nested dicts and lists by their path."""
    if isinstance(value, (dict, list)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for k, v in pairs for key, leaf in flat(v, f'{name}.{k}' if name else str(k)).items()}
    return {name: json.dumps(value)}  # so that nan equals nan


def compare(files: list[str], only: list[str]) -> int:
    """Print what differs between two snapshots, and return how many items do."""
    a, b = ({name: flat(item) for name, item in json.loads(Path(f).read_text())['items'].items()} for f in files)
    names = [name for name in sorted(a.keys() | b.keys()) if any(part in name for part in only or [''])]
    equal, total = Counter(), Counter(name.split('/')[0] for name in names)
    for name in names:
        if name not in a or name not in b:
            print(f'MISSING {name}: not in {files[name in a]}')
        elif a[name] == b[name]:
            equal[name.split('/')[0]] += 1
        else:
            print(f'DIFFERS {name}')
            for key in sorted(dict(a[name].items() ^ b[name].items())):
                print(f'    {key}: {a[name].get(key, "-")} | {b[name].get(key, "-")}')
    for section, count in total.items():
        print(f'{section}: {equal[section]} of {count} equal')
    return len(names) - equal.total()


def snapshot(root: Path, work: Path, out: Path, only: list[str]) -> int:
    """Compute and save all items, and return how many failed."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    import us3l_mm  # before anything of mmcv.ops

    if not Path(us3l_mm.__file__).is_relative_to(root):
        raise SystemExit(f'us3l_mm comes from {us3l_mm.__file__}, not from {root}')
    torch.set_num_threads(1)
    before, failed, items = fingerprint(root), 0, {}
    print(f'{root}, steps in {work}/snapshot_{before}', flush=True)
    for name, compute in Checkout(root, work / f'snapshot_{before}').items():
        if not any(part in name for part in only or ['']):
            continue
        start = time.time()
        try:
            assert name not in items, 'two items of this name'
            items[name] = compute()
            said = digest(items[name])[:12]
        except Exception as error:  # the others are wanted all the same
            failed, said = failed + 1, f'FAILED: {type(error).__name__}: {error}'
        out.write_text(json.dumps(dict(root=str(root), torch=torch.__version__, items=items), indent=1, sort_keys=True))
        print(f'{name} {said} ({time.time() - start:.0f} s)', flush=True)
    print(f'{len(items)} items in {out}, {failed} failed')
    if fingerprint(root) != before:
        raise SystemExit('sources changed meanwhile: the snapshot is of no single state, run again')
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', nargs='?', type=Path, metavar='ROOT', help='checkout to write down')
    parser.add_argument('--out', type=Path, help='file to write')
    parser.add_argument('--only', nargs='+', default=[], metavar='SUBSTR', help='only items named like one of these')
    parser.add_argument('--work-dir', type=Path, default='/tmp', help='steps go to snapshot_<hash of ROOT> in it')
    parser.add_argument('--compare', nargs=2, metavar='JSON', help='compare two snapshots instead')
    args = parser.parse_args()
    if args.compare:
        sys.exit(bool(compare(args.compare, args.only)))
    if args.root is None or args.out is None:
        parser.error('give ROOT and --out, or --compare')
    sys.exit(bool(snapshot(args.root.resolve(), args.work_dir.resolve(), args.out.resolve(), args.only)))


if __name__ == '__main__':
    main()

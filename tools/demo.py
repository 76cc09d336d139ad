"""Run the main job from end to end on a CPU: pretrain without labels, calibrate, probe and detect at several widths.

us3l demo        (or: make demo)

Each step is a command of this project, printed before it runs. After an interruption the same command goes on where it
stopped; delete work_dirs/demo to start over.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed

from us3l_mm.config import input_size, read_config
from us3l_mm.deploy.costs import width_complexity
from us3l_mm.evaluation import find_runs, last_logged, probe_widths
from us3l_mm.slim import calibrate_bn
from us3l_mm.utils.files import write_text
from us3l_mm.utils.tables import image_text, markdown_table
from us3l_mm.visualization import write_report

US3L = Path(__file__).with_name('us3l.py')
PRETRAIN = 'us3l_mm::digits/r18_1xb64-16e_digits.py'
PROBE = 'us3l_mm::digits/r18_1xb128-20e_digits.py'
DETECT = 'us3l_mm::digits/retinanet_r18-fpn_1xb4-10e_digits.py'
WIDTHS = (1.0, 0.75, 0.5, 0.25)
DETECT_WIDTHS = (1.0, 0.5)
FEW = '10'  # labels of each class
HEADER = (
    'Width',
    'Image',
    'Parameters',
    'MACs',
    'Probe, all labels (%)',
    'the same, random net',
    'Probe, 10 labels a class (%)',
    'the same, random net',
    'Box AP, fine-tuned (%)',
)
DRAW = ('default_hooks.visualization.draw=True', 'default_hooks.visualization.interval=1')


def say(text: str) -> None:
    print(f'\n=== {text}', flush=True)


def run(*command: str) -> None:
    """Run one of our tools as a command, with its output on the screen."""
    print('$ us3l ' + shlex.join(command), flush=True)
    # One thread: a second one gains little for nets this small, and slows them down several times on a busy machine.
    done = subprocess.run([sys.executable, US3L, *command], env={'OMP_NUM_THREADS': '1', **os.environ})
    if done.returncode:
        raise SystemExit(f'demo: this step failed (exit code {done.returncode}), see its messages above')


def text_table(rows: list[dict]) -> str:
    """Format a Markdown table with a line for each width."""
    numbers = ('probe', 'probe_random', 'few', 'few_random', 'box_ap')
    lines = [
        [f'{row["width"]:g}', image_text(row['size']), f'{row["params"]:,}', f'{row["macs"]:,}']
        + [None if row[name] is None else f'{row[name]:.1f}' for name in numbers]
        for row in rows
    ]
    return markdown_table(HEADER, lines)


def probe(backbone, cfg: Config, out: Path, checkpoint: Path | None) -> list[dict]:
    """Measure a frozen backbone at each width, as the protocol ``fast`` of linear_probe.py, and write it down."""
    preprocessor = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **cfg.model.data_preprocessor})
    train = Runner.build_dataloader({**cfg.train_dataloader, 'sampler': cfg.val_dataloader.sampler}, seed=0)
    test = Runner.build_dataloader(cfg.val_dataloader)
    rows = probe_widths(backbone, WIDTHS, train, test, preprocessor, few=[FEW])
    rows = [{**width_complexity(backbone, row['width'], input_size(cfg)), **row} for row in rows]
    result = dict(config=PROBE, checkpoint=str(checkpoint), protocol='fast', widths=rows)
    write_text(out / 'fast_probe.json', json.dumps(result, indent=2) + '\n')
    return rows


def random_backbone(cfg: Config):
    """Build the same backbone with random weights, and calibrate it."""
    set_random_seed(cfg.randomness.seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    calibrate_bn(model.backbone, WIDTHS, (model.data_preprocessor(batch)['inputs'][0] for batch in loader))
    return model.backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder for everything (default: %(default)s)')
    out = Path(parser.parse_args().work_dir)
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    start, seconds = time.time(), {}

    def timed(name: str) -> None:
        seconds[name] = round(time.time() - start - sum(seconds.values()), 1)

    say('1/5  Pretrain US3L on 1,442 digits, without labels')
    cfg = read_config(PRETRAIN)
    checkpoint = out / 'pretrain' / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    if not checkpoint.exists():
        run('train', PRETRAIN, '--work-dir', str(out / 'pretrain'), '--resume')
    timed('pretrain')

    say('2/5  Measure the batch-norm statistics of each width')
    calibrated = checkpoint.with_name(f'{checkpoint.stem}_calibrated.pth')
    if not calibrated.exists():
        run('calibrate', PRETRAIN, str(checkpoint), '--widths', *map(str, WIDTHS))
    timed('calibrate')

    say('3/5  Probe every width, and the same network before pretraining')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(calibrated), map_location='cpu', strict=True)
    probe_cfg = read_config(PROBE)
    ours = probe(model.backbone, probe_cfg, out / 'probe', calibrated)
    random = probe(random_backbone(cfg), probe_cfg, out / 'probe_random', None)
    rows = [
        dict(
            **{key: row[key] for key in ('width', 'size', 'params', 'macs')},
            probe=row['top1'],
            probe_random=untrained['top1'],
            few=row['few'][FEW]['mean'],
            few_random=untrained['few'][FEW]['mean'],
            box_ap=None,
        )
        for row, untrained in zip(ours, random)
    ]
    print(text_table(rows), flush=True)
    timed('probe')

    say('4/5  Fine-tune a detector at two widths, on digits pasted into photographs')
    run('make-digit-scenes', str(out / 'scenes'))
    for row in rows:
        if row['width'] not in DETECT_WIDTHS:
            continue
        work_dir = out / f'detect_w{row["width"]:g}'
        options = [f'model.backbone.init_cfg.checkpoint={calibrated}']
        options += [f'{split}_dataloader.dataset.data_root={out}/scenes/' for split in ('train', 'val', 'test')]
        options += DRAW
        command = ['train', DETECT, '--width', str(row['width']), '--work-dir', str(work_dir)]
        run(*command, '--resume', '--cfg-options', *options)
        row['box_ap'] = round(100 * last_logged(work_dir, 'coco/bbox_mAP'), 2)
        timed(f'detect_w{row["width"]:g}')

    say('5/5  Report')
    report = dict(
        widths=rows,
        epochs=cfg.train_cfg.max_epochs,
        pretrain_config=PRETRAIN,
        detect_config=DETECT,
        seconds=seconds,
        date=time.strftime('%Y-%m-%d'),
    )
    beats = all(row[name] > row[f'{name}_random'] for row in rows for name in ('probe', 'few'))
    summary = (
        'One ResNet-18 (16 base channels, 16 x 16 pixels) was pretrained once, without labels, by US3L on '
        "scikit-learn's handwritten digits, then run at four widths. Pretraining "
        + ('beats' if beats else 'does NOT beat')
        + ' the random net at every width in both probes.'
    )
    write_text(out / 'report.json', json.dumps(report, indent=2) + '\n')
    title = 'US3L on digits: one pretraining, every width'
    write_report(find_runs([out]), out / 'report.html', title, summary, command=f'us3l demo --work-dir {out}')
    print(text_table(rows))
    print(
        f'\n{summary}\nTook {time.time() - start:.0f} s. Open {out}/report.html; its numbers are in {out}/report.json'
    )


if __name__ == '__main__':
    main()

"""What a training shows on the screen, and what only its log file has."""

import logging
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from builders import TinyResNet
from us3l_mm.engine.console import keep_settings_off_screen, short_schedule, start_summary
from us3l_mm.models.multi_width import MultiWidthTraining

HIDDEN = [
    '\n' + 60 * '-' + '\nSystem environment:\n    sys.platform: linux',
    'Config:\nmodel = dict()',
    'Hooks will be executed in the following order:\nbefore_run:',
    'Exp name: r18_20261127',
    '\nconv1.weight - torch.Size([16, 3, 3, 3]): \nPretrainedInit: load from x.pth \n ',
]
SHOWN = [
    'Epoch(train) [1][2/2]  loss: 3.38',
    'Saving checkpoint at 1 epochs',
    'a Config: with Hooks, Exp name: in the middle',
]


def test_settings_go_to_the_file_only(tmp_path, capsys):
    logger = MMLogger.get_instance('console', log_file=str(tmp_path / 'x.log'))
    keep_settings_off_screen(logger)
    for text in HIDDEN + SHOWN:
        logger.info(text)
    logger.warning('"FileClient" will be deprecated in future.')
    logger.warning('bad image x.jpg')
    screen, file = capsys.readouterr().out, (tmp_path / 'x.log').read_text()
    for text in [*SHOWN, 'bad image x.jpg']:
        assert text in screen and text in file
    for text in [*HIDDEN, '"FileClient"']:
        assert text not in screen and text in file
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


@pytest.mark.parametrize('epochs', [1, 3])
def test_summary_of_a_model_of_one_width(epochs):
    model = torch.nn.Module()
    model.backbone, model.head = torch.nn.Linear(999, 1000), torch.nn.Linear(999, 1000)
    model.backbone.width = 0.5
    cfg = SimpleNamespace(filename='a.py')
    runner = SimpleNamespace(model=model, cfg=cfg, world_size=2, seed=7, work_dir='out', timestamp='then')
    loop = SimpleNamespace(dataloader=DataLoader(range(10), 4), max_epochs=epochs, max_iters=9)
    head, *lines = start_summary(runner, loop).splitlines()
    assert '; 10 training images; ' in head
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        'a.py',
        'Module, 2 M trained parameters, 1 M of them in Linear, on cpu',
        'range: 10 images, batches of 4 on each of 2 devices',
        '0.5 alone',
        f'{"" if epochs == 1 else "3 epochs, "}9 iterations',
        '7',
        'out; environment, whole config and hooks: then/then.log',
    ]


class Widths(MultiWidthTraining):
    def __init__(self, by_epoch, **sampler):
        super().__init__()
        self.backbone = TinyResNet()
        self.set_training(sampler, None, 'per_width', by_epoch)


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(
    'sampler', [{}, dict(widths=[1.0, 0.75, 0.5, 0.25]), dict(dynamic=False), dict(dynamic=False, slow_start=0.5)]
)
@pytest.mark.parametrize('length', range(1, 6))
def test_summary_tells_the_widths_that_are_drawn(by_epoch, sampler, length):
    model = Widths(by_epoch, **sampler)
    loop = SimpleNamespace(
        dataloader=DataLoader(range(8), 4),
        max_epochs=length if by_epoch else 1,
        max_iters=length * (10 if by_epoch else 1),
    )
    runner = SimpleNamespace(
        model=model, cfg=SimpleNamespace(filename='a.py'), world_size=1, seed=7, work_dir='out', timestamp='then'
    )
    drawn = [model.sampler(epoch, epoch, length) for epoch in range(length)]
    lowest = min(map(min, drawn))
    text = next(line for line in start_summary(runner, loop).splitlines() if line.startswith('  widths'))
    told = [float(word) for word in text.replace(',', '').split() if word[0].isdigit() and word != '4']
    assert min(told) == pytest.approx(lowest) and max(told) == 1
    warning = short_schedule(runner, loop)
    assert bool(warning) == (lowest > 0.26) == ('none below' in warning)
    if warning:
        assert f'{lowest:g} is trained' in warning and ('--epochs' in warning) == by_epoch
        assert re.search('[= ]2 ' if 'slow_start' in sampler else '[= ]4 ', warning.rpartition(';')[2])

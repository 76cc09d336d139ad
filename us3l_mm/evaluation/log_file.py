"""Read a log file of mmengine."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_ENTRY = re.compile(r'^(\d+/\d+(?:/\d+)? \d\d:\d\d:\d\d) - mmengine - ([A-Z]+) - (.*)')
_SETTING = re.compile(r'^    ([A-Za-z][\w. ,]*): (.*)')
_START = re.compile(r'us3l_mm ([^\s,;]+)(?:, commit (\w+))?; (\d+) training images; (\d+) CPU cores')
_EPOCH = re.compile(r'Epoch\(train\)\s*\[\d+\]\[\s*\d+/(\d+)\]')
_SAVED = re.compile(r'Saving checkpoint at (\d+) (epochs|iterations)')
_RESUMED = re.compile(r'resumed epoch: \d+, iter: (\d+)')
_UNTOLD = ('FileClient', 'HardDiskBackend')  # mmengine's warnings to developers


@dataclass
class LogFile:
    """What a log file says.

    Attributes:
        environment (dict[str, str]): Settings of the system and of the run, such as ``PyTorch`` and ``seed``.
        version (str): That of us3l_mm; empty where it is not logged, as are commit and last.
        commit (str): Commit of the folder that it was started in.
        images (int, optional): Number of training images.
        cores (int, optional): CPU cores of the machine.
        epoch_length (int, optional): Iterations of an epoch; None for a training counted in iterations.
        resumed (int, optional): Iterations that were there when it went on; None if it began anew.
        saved (tuple[int, str], optional): Last checkpoint, as ``(16, 'epochs')``.
        last (str): Time of the last entry.
        warnings (list[str]): First lines of warnings and errors, each once.
    """

    environment: dict[str, str] = field(default_factory=dict)
    version: str = ''
    commit: str = ''
    images: int | None = None
    cores: int | None = None
    epoch_length: int | None = None
    resumed: int | None = None
    saved: tuple[int, str] | None = None
    last: str = ''
    warnings: list[str] = field(default_factory=list)


def read_log_file(path: Path) -> LogFile:
    """Read a log file; what it does not say is left out."""
    log = LogFile()
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            entry = _ENTRY.match(line)
            if entry:
                last, level, text = entry.groups()
                log.last = last.replace('/', '-')
                _note(log, level, text)
            elif not log.saved and (setting := _SETTING.match(line)):
                log.environment.setdefault(setting[1], setting[2].strip())
    return log


def _note(log: LogFile, level: str, text: str) -> None:
    """Take what is of interest from one entry."""
    if level in ('WARNING', 'ERROR', 'CRITICAL'):
        if not any(word in text for word in _UNTOLD) and text not in log.warnings:
            log.warnings.append(text)
    elif start := _START.search(text):
        log.version, log.commit = start[1], start[2] or ''
        log.images, log.cores = int(start[3]), int(start[4])
    elif epoch := _EPOCH.match(text):
        log.epoch_length = int(epoch[1])
    elif saved := _SAVED.match(text):
        log.saved = (int(saved[1]), saved[2])
    elif resumed := _RESUMED.match(text):
        log.resumed = int(resumed[1])

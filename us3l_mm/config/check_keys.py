"""Find misspelt top-level keys of a config, which nothing would read."""

import difflib
import inspect

from mmengine.config import Config
from mmengine.runner import Runner

# What mmengine's Runner and our tools read besides the arguments of a Runner.
_READ = (
    'activation_checkpointing',
    'classes',
    'compile',
    'custom_imports',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'input_size',
    'model_wrapper_cfg',
    'overwrite',
    'runner_type',
    'sync_bn',
    'width',
)
KEYS = tuple(sorted({*inspect.signature(Runner.__init__).parameters, *_READ} - {'self', 'cfg'}))
# Variables of the configs of mmdet, mmpretrain and ours that look like one of these keys.
_VARIABLES = frozenset({'cases', 'conv_cfg', 'gallery_dataloader', 'widths'})


def refuse_misspelt(cfg: Config) -> None:
    """Raise ValueError if a top-level key is not read by anything, but close to one that is.

    Configs hold variables of their own, so an unknown key is no error by itself: only one as near to a known key as
    ``mdoel`` is, a ratio of difflib from 0.8. Names that go on after a known key, such as ``val_evaluator_coco`` and
    ``data_root_2``, and those with a leading ``_`` are variables. No config of mmdet 3.3.0 or mmpretrain 1.2.0 is
    refused.
    """
    for key in cfg:
        if key in KEYS or key in _VARIABLES or key.startswith('_'):
            continue
        for known in difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8):
            if key.startswith(f'{known}_'):
                continue
            raise ValueError(
                f'nothing reads the top-level key {key!r} of the config: did you mean {known!r}? If it is a variable '
                'of your own, rename it'
            )

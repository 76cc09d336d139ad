"""Refuse to train from a checkpoint that has nothing for the model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS


@HOOKS.register_module()
class CheckLoadedHook(Hook):
    """Stop where ``load_from`` or ``resume`` names a checkpoint that has nothing for the model.

    mmengine loads what fits and warns of the rest; of a checkpoint that has none of the model's keys that is
    all. ``tools/train.py`` registers this hook.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare keys, before any is loaded.

        Raises:
            RuntimeError: If the checkpoint and the model have no key in common.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own, given = model.state_dict(), checkpoint.get('state_dict', checkpoint)
        if not any(key.removeprefix('module.') in own for key in given):
            raise RuntimeError(
                f'the checkpoint to load has none of the {len(own)} keys of {type(model).__name__}: it has '
                f'{list(given)[:3]}, the model {list(own)[:3]}. load_from takes a checkpoint of the whole model; that '
                'of a backbone goes to model.backbone.init_cfg'
            )

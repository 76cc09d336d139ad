"""Refuse to train from a checkpoint that has nothing for the model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from us3l_mm.registry import HOOKS


@HOOKS.register_module()
class CheckLoadedHook(Hook):
    """Stop if the checkpoint of ``load_from`` or ``resume`` has no key in common with the model.

    mmengine only warns of keys that do not fit, even if none does. ``tools/train.py`` registers this hook.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare keys before they are loaded.

        Raises:
            RuntimeError: If the checkpoint and the model have no key in common.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own, given = model.state_dict(), checkpoint.get('state_dict', checkpoint)
        if not any(key.removeprefix('module.') in own for key in given):
            raise RuntimeError(
                f'the checkpoint to load has none of the {len(own)} keys of {type(model).__name__}: it has '
                f'{list(given)[:3]}, the model {list(own)[:3]}; load a backbone by model.backbone.init_cfg'
            )

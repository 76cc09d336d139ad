"""Let mmengine and mmpretrain find the configs and the model index that this package ships in ``us3l_mm/.mim``.

mmengine knows the packages of ``_base_ = 'mmdet::...'`` by a table of its own, and takes every type without a prefix in
such a config for one of that package. Ours are written for the scope that they name as ``default_scope``, mmpretrain or
mmdet. mmpretrain's ``list_models`` and ``get_model`` know its own model index only.

Obsolete with an mmengine in which a package can say where its configs are: none yet (mmengine 0.10.7).
"""

import sys
from pathlib import Path
from types import ModuleType

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import hub

from .after_import import after_import

OURS = 'us3l_mm'
MIM = Path(__file__).parents[1] / '.mim'
# Folders with a metafile.yml whose models mmpretrain builds; those of det need mmdet's scope.
FOLDERS = ('us3l', 'baselines', 'linear', 'digits')


def add_models(module: ModuleType) -> None:
    """Register our models with mmpretrain's ``ModelHub`` after it has registered its own, which it does when asked."""
    register = module.ModelHub._register_mmpretrain_models

    def register_all() -> None:
        register()
        module.ModelHub._register_mmpretrain_models = register
        for folder in FOLDERS:
            module.ModelHub.register_model_index(MIM / 'configs' / folder / 'metafile.yml', config_prefix=MIM)

    module.ModelHub._register_mmpretrain_models = register_all


def keep_scope() -> None:
    """Build what our configs hold in the scope that they name."""
    find, get_config = Config._get_cfg_path, hub.get_config

    def find_in_own_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == OURS else scope

    def get_config_in_own_scope(cfg_path: str, pretrained: bool = False) -> Config:
        cfg = get_config(cfg_path, pretrained)
        if cfg_path.startswith(f'{OURS}::') and 'model' in cfg:
            cfg.model.setdefault('_scope_', cfg.default_scope)
        return cfg

    Config._get_cfg_path = staticmethod(find_in_own_scope)
    hub.get_config = sys.modules['mmengine.hub'].get_config = get_config_in_own_scope


def apply() -> bool:
    """Tell mmengine now, and mmpretrain when it is imported."""
    MODULE2PACKAGE[OURS] = OURS
    keep_scope()
    after_import({'mmpretrain.apis.model': add_models})
    return True

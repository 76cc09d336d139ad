"""Registries of the scope ``us3l_mm``, whose types any OpenMMLab config can name as ``us3l_mm.X``."""

from importlib import import_module
from typing import Any

import mmengine.registry as mmengine_registry
from mmengine.registry import Registry


class ScopedRegistry(Registry):
    """Registry of our scope, which imports types that need mmdet only when a config names them.

    Args:
        name (str): Registry of mmengine to extend, such as ``'MODELS'``.
        locations (list[str]): Modules that register the types without mmdet.
        with_mmdet (dict[str, str], optional): Module of each type that needs mmdet, by name. Defaults to none.
    """

    def __init__(self, name: str, locations: list[str], with_mmdet: dict[str, str] | None = None) -> None:
        parent = getattr(mmengine_registry, name)
        super().__init__(parent.name, parent=parent, scope='us3l_mm', locations=locations)
        self.with_mmdet = with_mmdet or {}

    def get(self, key: str) -> type | None:
        """Look up a type by its name with or without scope; see :meth:`mmengine.registry.Registry.get`.

        Raises:
            ImportError: If the type needs mmdet, which is not installed.
        """
        scope, name = self.split_scope_key(key) if isinstance(key, str) else (None, None)
        if scope in (None, self.scope) and name in self.with_mmdet:
            try:
                import_module(self.with_mmdet[name])
            except ModuleNotFoundError as error:
                raise ImportError(f'us3l_mm.{name} needs mmdet ({error}). Fix: pip install mmdet==3.3.0') from error
        return super().get(key)


DATASETS = ScopedRegistry(
    'DATASETS',
    ['us3l_mm.datasets'],
    {'CustomCOCO': 'us3l_mm.datasets.custom_coco', 'CustomVOC': 'us3l_mm.datasets.custom_voc'},
)
FUNCTIONS = ScopedRegistry('FUNCTIONS', ['us3l_mm.datasets'])
HOOKS = ScopedRegistry('HOOKS', ['us3l_mm.engine', 'us3l_mm.evaluation'])
LOOPS = ScopedRegistry('LOOPS', ['us3l_mm.engine'])
METRICS = ScopedRegistry(
    'METRICS', ['us3l_mm.evaluation'], {'CustomCOCOMetric': 'us3l_mm.evaluation.custom_coco_metric'}
)
MODELS = ScopedRegistry(
    'MODELS',
    ['us3l_mm.models'],
    {
        'SlimmableDarknet': 'us3l_mm.models.backbones.stock_mmdet',
        'SlimmableDetector': 'us3l_mm.models.detectors',
        'SlimmableHRNet': 'us3l_mm.models.backbones.stock_mmdet',
    },
)
MODEL_WRAPPERS = ScopedRegistry('MODEL_WRAPPERS', ['us3l_mm.models'])
OPTIM_WRAPPERS = ScopedRegistry('OPTIM_WRAPPERS', ['us3l_mm.engine'])
RUNNERS = ScopedRegistry('RUNNERS', ['us3l_mm.engine'])
TASK_UTILS = ScopedRegistry('TASK_UTILS', ['us3l_mm.models'])
TRANSFORMS = ScopedRegistry('TRANSFORMS', ['us3l_mm.datasets'])


def find_class(kind: Any, scope: str | None, registry: Registry = MODELS) -> type | None:
    """Look up the class that the ``type`` of a config names, in whatever spelling.

    Args:
        kind (str | type, optional): The ``type``: a name with or without scope, the path of a class such as
            ``'mmdet.models.ResNet'``, or the class itself.
        scope (str, optional): ``default_scope`` of the config. None: that of the process, if there is one.
        registry (Registry): Ours for such types, or mmengine's. Defaults to :data:`MODELS`.

    Returns:
        type | None: None if there is no type, no registry knows it, or it is a function.
    """
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(scope) as scoped:
            kind = scoped.get(kind)
    return kind if isinstance(kind, type) else None

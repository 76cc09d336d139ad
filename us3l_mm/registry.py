"""Registries of the scope ``us3l_mm``: use our types from any OpenMMLab config as ``us3l_mm.X``."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='us3l_mm', locations=['us3l_mm.datasets'])
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, scope='us3l_mm', locations=['us3l_mm.engine'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='us3l_mm', locations=['us3l_mm.engine'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='us3l_mm', locations=['us3l_mm.evaluation'])
MODELS = Registry('model', parent=MMENGINE_MODELS, scope='us3l_mm', locations=['us3l_mm.models'])
MODEL_WRAPPERS = Registry(
    'model_wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='us3l_mm', locations=['us3l_mm.models']
)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='us3l_mm', locations=['us3l_mm.engine']
)

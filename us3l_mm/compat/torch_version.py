"""Let Dynamo trace mmengine's SyncBatchNorm, which asks at each call whether the version of PyTorch is 'parrots'.

``torch.__version__`` compares itself with texts by code that Dynamo of torch 2.14 refuses; a plain string does not.

Obsolete with an mmengine that drops Parrots: none yet (mmengine 0.10.7).
"""


def apply() -> bool:
    """Make the version that mmengine compares a plain string."""
    from mmengine.utils.dl_utils import parrots_wrapper

    parrots_wrapper.TORCH_VERSION = str(parrots_wrapper.TORCH_VERSION)
    return True

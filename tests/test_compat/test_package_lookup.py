"""Finding packages without ``pkg_resources``."""

import os
import sys
import warnings

import mmdet
import mmengine
import pytest
from mmengine.config import Config

from us3l_mm.compat import package_lookup, warning_filters


@pytest.mark.parametrize('module', [mmdet, mmengine])
def test_path_is_the_folder_of_the_imported_module(module):
    assert package_lookup.is_installed(module.__name__)
    assert package_lookup.get_installed_path(module.__name__) == os.path.dirname(module.__file__)


def test_distribution_with_another_module_name_is_found():
    # opencv-python installs cv2.
    import cv2

    assert os.path.dirname(cv2.__file__) == package_lookup.get_installed_path('opencv-python')


def test_missing_package_is_named():
    assert not package_lookup.is_installed('no_such_package')
    with pytest.raises(ModuleNotFoundError, match="'no_such_package'"):
        package_lookup.get_installed_path('no_such_package')


def test_config_of_another_package_loads_without_pkg_resources(monkeypatch):
    # None in sys.modules makes any import of it fail.
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    config = Config.fromstring("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'", '.py')
    assert config.model.type == 'RetinaNet'


def test_filters_hide_upstream_and_keep_own_warnings():
    text = '`torch.cuda.amp.GradScaler(args...)` is deprecated. Please use another.'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        warning_filters.apply()
        for module in ('mmengine.optim.optimizer.amp_optimizer_wrapper', 'mmdet', 'mmdetection', 'my_tool'):
            warnings.warn_explicit(text, FutureWarning, 'file.py', 1, module=module)
        warnings.warn_explicit('another', FutureWarning, 'file.py', 1, module='mmdet')
    assert len(caught) == 3

"""Linear evaluation of the small S-Net ResNet-18 on scikit-learn's digits at its 4 widths; nothing to calibrate.

python tools/linear_probe.py configs/digits/snet_r18_1xb128-20e_digits.py CHECKPOINT
A CPU is enough. Result: not run yet.
"""

_base_ = ['./r18_1xb128-20e_digits.py', '../_base_/models/snet_layers.py']

model = dict(widths=_base_.widths, backbone=_base_.snet_layers)

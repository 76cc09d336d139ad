"""Linear evaluation of S-Net ResNet-18 on CIFAR-100 at its 4 widths; nothing to calibrate.

python tools/linear_probe.py configs/linear/snet_r18_1xb512-100e_cifar100.py CHECKPOINT
1 GPU of 512 images. Result: not run yet.
"""

_base_ = ['./r18_1xb512-100e_cifar100.py', '../_base_/models/snet_layers.py']

model = dict(widths=_base_.widths, backbone=_base_.snet_layers)

"""Linear evaluation of ViT-Small on CIFAR-10 at 224 pixels and 4 widths; nothing to calibrate.

python tools/linear_probe.py configs/linear/vit-small_1xb512-90e_cifar10.py CHECKPOINT
1 GPU of 512 images. Result: not run yet.
"""

_base_ = './vit-tiny_1xb512-90e_cifar10.py'

model = dict(backbone=dict(arch='small'))

"""Linear evaluation of MobileNetV2 on CIFAR-100 at 9 widths.

python tools/linear_probe.py configs/linear/mbv2_1xb512-100e_cifar100.py CALIBRATED_CHECKPOINT
1 GPU of 512 images. Result: not run yet.
"""

_base_ = './r18_1xb512-100e_cifar100.py'

model = dict(backbone=dict(_delete_=True, type='us3l_mm.SlimmableMobileNetV2_CIFAR'))

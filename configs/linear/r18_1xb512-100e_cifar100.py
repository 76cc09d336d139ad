"""Linear evaluation of ResNet-18 on CIFAR-100 at 9 widths, the paper's protocol.

python tools/linear_probe.py configs/linear/r18_1xb512-100e_cifar100.py CALIBRATED_CHECKPOINT
1 GPU of 512 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe.py',
    '../_base_/datasets/cifar100_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=512)

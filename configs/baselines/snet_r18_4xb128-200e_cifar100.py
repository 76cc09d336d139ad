"""Supervised S-Net ResNet-18 on CIFAR-100, 200 epochs: four widths in one run.

bash tools/dist_train.sh configs/baselines/snet_r18_4xb128-200e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/snet_supervised.py',
    '../_base_/datasets/cifar100_supervised.py',
    '../_base_/schedules/supervised_200e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=4 * 128)

"""Supervised ResNet-18 of one width on CIFAR-100, 200 epochs: an individual network.

bash tools/dist_train.sh configs/baselines/supervised_r18_4xb128-200e_cifar100.py 4 --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/supervised.py',
    '../_base_/datasets/cifar100_supervised.py',
    '../_base_/schedules/supervised_200e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=4 * 128)

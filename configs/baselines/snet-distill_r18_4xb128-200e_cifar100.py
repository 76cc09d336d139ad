"""Supervised S-Net ResNet-18 with in-place distillation on CIFAR-100, 200 epochs: four widths in one run.

bash tools/dist_train.sh configs/baselines/snet-distill_r18_4xb128-200e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './snet_r18_4xb128-200e_cifar100.py'

model = dict(distill=True)

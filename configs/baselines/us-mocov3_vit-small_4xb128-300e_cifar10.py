"""US-Net with MoCo v3, ViT-Small on CIFAR-10 at 224 pixels, 300 epochs: all widths in one run.

bash tools/dist_train.sh configs/baselines/us-mocov3_vit-small_4xb128-300e_cifar10.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './us-mocov3_vit-tiny_4xb128-300e_cifar10.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))

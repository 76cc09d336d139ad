"""MoCo v3, ViT-Small of one width on CIFAR-10 at 224 pixels, 300 epochs.

bash tools/dist_train.sh configs/baselines/mocov3_vit-small_4xb128-300e_cifar10.py 4 --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './mocov3_vit-tiny_4xb128-300e_cifar10.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))

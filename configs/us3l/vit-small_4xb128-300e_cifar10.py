"""US3L ViT-Small on CIFAR-10 at 224 pixels, 300 epochs: the paper's recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/vit-small_4xb128-300e_cifar10.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './vit-tiny_4xb128-300e_cifar10.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))

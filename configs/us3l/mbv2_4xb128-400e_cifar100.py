"""US3L MobileNetV2 on CIFAR-100, 400 epochs: the paper's CIFAR recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/mbv2_4xb128-400e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './r18_4xb128-400e_cifar100.py'

model = dict(
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableMobileNetV2_CIFAR'),
    neck=dict(in_channels=1280),
)

"""BYOL, ResNet-50 of one width on CIFAR-100, 400 epochs: also the teacher of SEED.

bash tools/dist_train.sh configs/baselines/byol_r50_8xb64-400e_cifar100.py 8
8 GPUs of 64 images. Result: not run yet.
"""

_base_ = './byol_r18_4xb128-400e_cifar100.py'

model = dict(backbone=dict(depth=50), neck=dict(in_channels=2048))
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=8 * 64)

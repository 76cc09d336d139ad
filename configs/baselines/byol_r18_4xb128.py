"""BYOL, ResNet-18 of one width on ImageNet, 100 epochs.

bash tools/dist_train.sh configs/baselines/byol_r18_4xb128.py 4 --amp --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './byol_r50_8xb60.py'

model = dict(backbone=dict(depth=18), neck=dict(in_channels=512))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=4 * 128)

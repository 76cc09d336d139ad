"""US-Net with BYOL, ResNet-50 on ImageNet, 100 epochs: all widths in one run.

bash tools/dist_train.sh configs/baselines/us-byol_r50_8xb60.py 8 --amp
8 GPUs of 60 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us_byol.py',
    '../_base_/datasets/imagenet_us3l.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet', depth=50, zero_init_residual=False),
    neck=dict(in_channels=2048),
)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=8 * 60)

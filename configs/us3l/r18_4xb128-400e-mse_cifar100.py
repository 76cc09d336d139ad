"""US3L ResNet-18 on CIFAR-100 with the MSE base (BYOL), 400 epochs: ablation case 4 and the paper's BYOL recipe.

bash tools/dist_train.sh configs/us3l/r18_4xb128-400e-mse_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_mse.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
    '../_base_/monitor_cifar100.py',
]

model = dict(
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18),
    neck=dict(in_channels=512),
    group_reg=dict(coefficient=0.5 * 5e-4),
)
optim_wrapper = dict(optimizer=dict(lr=0.05))
auto_scale_lr = dict(base_batch_size=4 * 128)

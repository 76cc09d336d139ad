"""BYOL, ResNet-18 of one width on CIFAR-100, 400 epochs.

bash tools/dist_train.sh configs/baselines/byol_r18_4xb128-400e_cifar100.py 4 --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/byol.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=5e-4))
auto_scale_lr = dict(base_batch_size=4 * 128)

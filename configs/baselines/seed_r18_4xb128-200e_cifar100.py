"""SEED, ResNet-18 of one width on CIFAR-100, 200 epochs, taught by BYOL ResNet-50.

bash tools/dist_train.sh configs/baselines/byol_r50_8xb64-400e_cifar100.py 8    # the teacher
bash tools/dist_train.sh configs/baselines/seed_r18_4xb128-200e_cifar100.py 4 --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/seed.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]

max_epochs = 200
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=4 * 128)

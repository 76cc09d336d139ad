"""MoCo v2, ResNet-18 of one width on CIFAR-100, 400 epochs.

bash tools/dist_train.sh configs/baselines/mocov2_r18_4xb64-400e_cifar100.py 4 --width 0.5
4 GPUs of 64 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/mocov2.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=4 * 64)

"""US3L ResNet-18 on CIFAR-100, 400 epochs: the paper's CIFAR recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/r18_4xb128-400e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_nce.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
    '../_base_/monitor_cifar100.py',
]
auto_scale_lr = dict(base_batch_size=4 * 128)

"""Supervised US-Net ResNet-18 on CIFAR-100, 200 epochs: any width in one run.

bash tools/dist_train.sh configs/baselines/usnet_r18_4xb128-200e_cifar100.py 4
python tools/calibrate_bn.py configs/baselines/usnet_r18_4xb128-200e_cifar100.py CHECKPOINT
python tools/test.py configs/baselines/usnet_r18_4xb128-200e_cifar100.py CALIBRATED_CHECKPOINT
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us_supervised.py',
    '../_base_/datasets/cifar100_supervised.py',
    '../_base_/schedules/supervised_200e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=4 * 128)
val_dataloader = val_evaluator = val_cfg = None  # batch norm has no statistics before it is calibrated

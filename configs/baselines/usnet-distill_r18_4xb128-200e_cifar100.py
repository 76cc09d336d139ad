"""Supervised US-Net ResNet-18 with in-place distillation on CIFAR-100, 200 epochs: any width in one run.

bash tools/dist_train.sh configs/baselines/usnet-distill_r18_4xb128-200e_cifar100.py 4
python tools/calibrate_bn.py configs/baselines/usnet-distill_r18_4xb128-200e_cifar100.py CHECKPOINT
python tools/test.py configs/baselines/usnet-distill_r18_4xb128-200e_cifar100.py CALIBRATED_CHECKPOINT
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './usnet_r18_4xb128-200e_cifar100.py'

model = dict(distill=True)

"""US3L ResNet-18 on CIFAR-100, 800 epochs.

bash tools/dist_train.sh configs/us3l/r18_4xb128-800e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './r18_4xb128-400e_cifar100.py'

max_epochs = 2 * 400
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)

"""US3L ResNet-50 on CIFAR-100, 800 epochs.

bash tools/dist_train.sh configs/us3l/r50_8xb64-800e_cifar100.py 8
8 GPUs of 64 images. Result: not run yet.
"""

_base_ = './r50_8xb64-400e_cifar100.py'

max_epochs = 2 * 400
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)

"""US3L ResNet-50 on CIFAR-100, 400 epochs: the paper's recipe on 8 GPUs.

bash tools/dist_train.sh configs/us3l/r50_8xb64-400e_cifar100.py 8
8 GPUs of 64 images. Result: not run yet.
"""

_base_ = './r18_4xb128-400e_cifar100.py'

model = dict(backbone=dict(depth=50), neck=dict(in_channels=2048))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.25))
auto_scale_lr = dict(base_batch_size=8 * 64)

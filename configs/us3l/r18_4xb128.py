"""US3L ResNet-18 on ImageNet, 100 epochs: the authors' recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/r18_4xb128.py 4 --amp
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './r50_8xb60.py'

model = dict(backbone=dict(depth=18), neck=dict(in_channels=512))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=4 * 128)

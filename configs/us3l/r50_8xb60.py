"""US3L ResNet-50 on ImageNet, 100 epochs: the authors' recipe on 8 GPUs, 480 images an iteration.

bash tools/dist_train.sh configs/us3l/r50_8xb60.py 8 --amp
Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_mse.py',
    '../_base_/datasets/imagenet_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]

max_epochs = 100
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=8 * 60)

"""US3L ResNet-50 on ImageNet, 100 epochs, 2,048 images an iteration.

The learning rate is that of the authors' run with 480 images, scaled linearly: 0.05 * 2048 / 480.

bash tools/dist_train.sh configs/us3l/r50_8xb256.py 8 --amp
8 GPUs of 256 images. Result: not run yet.
"""

_base_ = './r50_8xb60.py'

train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=0.05 * (8 * 256) / (8 * 60)))
auto_scale_lr = dict(base_batch_size=8 * 256)

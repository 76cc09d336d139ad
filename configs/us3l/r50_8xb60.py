"""US3L ResNet-50 on ImageNet, 100 epochs: the authors' recipe on 8 GPUs, 480 images an iteration.

bash tools/dist_train.sh configs/us3l/r50_8xb60.py 8 --amp
8 GPUs of 60 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_mse.py',
    '../_base_/datasets/imagenet_us3l.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=8 * 60)

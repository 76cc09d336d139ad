"""US3L ViT-Tiny on CIFAR-10 at 224 pixels, 300 epochs: the paper's recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/vit-tiny_4xb128-300e_cifar10.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_vit.py',
    '../_base_/datasets/cifar10-224_us3l.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=4 * 128)

"""MoCo v3, ViT-Tiny of one width on CIFAR-10 at 224 pixels, 300 epochs.

bash tools/dist_train.sh configs/baselines/mocov3_vit-tiny_4xb128-300e_cifar10.py 4 --width 0.5
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/cifar10-224_us3l.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=4 * 128)

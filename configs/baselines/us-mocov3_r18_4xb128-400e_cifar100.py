"""US-Net with MoCo v3, ResNet-18 on CIFAR-100, 400 epochs: all widths in one run, without US3L's guidelines.

bash tools/dist_train.sh configs/baselines/us-mocov3_r18_4xb128-400e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet. The paper has no such run: the rest of the recipe is SimCLR's.
"""

_base_ = [
    '../_base_/models/us_mocov3.py',
    '../_base_/datasets/cifar100_us3l.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=4 * 128)

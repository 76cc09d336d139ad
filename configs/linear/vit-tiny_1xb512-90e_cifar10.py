"""Linear evaluation of ViT-Tiny on CIFAR-10 at 224 pixels and 4 widths; nothing to calibrate.

python tools/linear_probe.py configs/linear/vit-tiny_1xb512-90e_cifar10.py CHECKPOINT
1 GPU of 512 images. Result: not run yet.
"""

_base_ = './r18_1xb512-100e_cifar100.py'

max_epochs = 90
input_size = 224
model = dict(
    widths=[1.0, 0.75, 0.5, 0.25],
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableVisionTransformer', arch='tiny', img_size=input_size),
    neck=None,
    head=dict(num_classes=10),
)
train_dataloader = dict(
    dataset=dict(
        type='CIFAR10',
        data_root='data/cifar10',
        pipeline=[
            dict(type='RandomResizedCrop', scale=input_size, crop_ratio_range=(0.8, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='CIFAR10',
        data_root='data/cifar10',
        pipeline=[dict(type='Resize', scale=input_size, interpolation='bicubic'), dict(type='PackInputs')],
    )
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)

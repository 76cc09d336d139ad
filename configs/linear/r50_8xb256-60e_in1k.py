"""Linear evaluation of ResNet-50 on ImageNet at 4 widths: LARS, 60 epochs, 2,048 images an iteration.

python -m torch.distributed.run --nproc_per_node=8 tools/linear_probe.py \
    configs/linear/r50_8xb256-60e_in1k.py CALIBRATED_CHECKPOINT --launcher pytorch
Result: not run yet.
"""

_base_ = './r18_1xb512-100e_cifar100.py'

max_epochs = 60
input_size = 224
model = dict(
    widths=[1.0, 0.75, 0.5, 0.25],
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet', depth=50),
    head=dict(num_classes=1000),
)
train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        _delete_=True,
        type='ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, backend='pillow'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=256,
    dataset=dict(
        _delete_=True,
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(_delete_=True, type='LARS', lr=0.8, momentum=0.9, weight_decay=0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)

"""Linear evaluation of ResNet-18 on CIFAR-100 at 9 widths, the paper's protocol.

python tools/linear_probe.py configs/linear/r18_1xb512-100e_cifar100.py CALIBRATED_CHECKPOINT
Result: not run yet.
"""

_base_ = '../_base_/default_runtime.py'

input_size = 32
model = dict(
    type='us3l_mm.LinearProbe',
    widths=[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25],
    data_preprocessor=dict(
        mean=[0.4914 * 255, 0.4822 * 255, 0.4465 * 255], std=[0.2023 * 255, 0.1994 * 255, 0.2010 * 255], to_rgb=True
    ),
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18),
    head=dict(type='LinearClsHead', num_classes=100),
)
train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    worker_init_fn=dict(type='us3l_mm.seed_worker'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR100',
        download=False,
        data_root='data/cifar100',
        split='train',
        pipeline=[
            dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.8, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=512,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR100',
        download=False,
        data_root='data/cifar100',
        split='test',
        pipeline=[
            dict(type='Resize', scale=36, interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=32),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='us3l_mm.WidthAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=30, momentum=0.9, weight_decay=0))
param_scheduler = [dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
val_cfg = dict()
test_cfg = dict()
model_wrapper_cfg = None

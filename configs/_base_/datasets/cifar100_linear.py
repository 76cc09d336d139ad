"""CIFAR-100 with labels, for linear evaluation: crop and flip; test images resized to 36 and cropped to 32."""

_base_ = './cifar_pixels.py'

input_size = 32
train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR100',
        download=False,
        data_root='data/cifar100',
        split='train',
        pipeline=[
            dict(type='RandomResizedCrop', scale=input_size, crop_ratio_range=(0.8, 1.0), interpolation='bicubic'),
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
            dict(type='CenterCrop', crop_size=input_size),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader

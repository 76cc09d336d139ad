"""ImageNet with labels at 224 pixels, for linear evaluation: crop and flip; test images cut from the centre."""

_base_ = './imagenet_pixels.py'

input_size = 224
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(type='LoadImageFromFile', _scope_='us3l_mm'),
            dict(type='RandomResizedCrop', scale=input_size, backend='pillow'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(type='LoadImageFromFile', _scope_='us3l_mm'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=input_size),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader

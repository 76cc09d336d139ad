"""Two views of scikit-learn's digits at 16 x 16 pixels: mild affine maps, brightness and contrast."""

_base_ = './digits_pixels.py'

view = [
    dict(type='Resize', scale=16, interpolation='bicubic'),
    dict(type='NumpyToPIL'),
    dict(
        type='torchvision/RandomAffine',
        degrees=15,
        translate=(0.1, 0.1),
        scale=(0.8, 1.2),
        shear=10,
        interpolation='bilinear',
    ),
    dict(type='torchvision/ColorJitter', brightness=0.4, contrast=0.4),
    dict(type='PILToNumpy'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='us3l_mm.Digits',
        split='train',
        pipeline=[dict(type='MultiView', num_views=2, transforms=[view]), dict(type='PackInputs')],
    ),
)

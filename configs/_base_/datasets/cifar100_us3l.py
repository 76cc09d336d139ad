"""Two views of CIFAR-100 as in the paper: crop, flip, colour jitter, grey; no blur."""

_base_ = './cifar_pixels.py'

view = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.2, 1.0), backend='cv2'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.299, 0.587, 0.114)),  # of RGB
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR100',
        download=False,
        data_root='data/cifar100',
        split='train',
        pipeline=[dict(type='MultiView', num_views=2, transforms=[view]), dict(type='PackInputs')],
    ),
)

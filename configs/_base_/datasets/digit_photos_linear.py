"""Digits in photographs with labels at 16 x 16 pixels, for linear evaluation."""

_base_ = './digit_photos_pixels.py'

input_size = 16
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=256,
    num_workers=0,  # tiny images: a worker costs more than it saves
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='us3l_mm.DigitPhotos', split='train', pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='us3l_mm.DigitPhotos', split='test', count=1000, pipeline=pipeline),
)
test_dataloader = val_dataloader

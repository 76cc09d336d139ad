"""Two views of digits in photographs at 16 x 16 pixels, made in batches: crop, brightness, contrast; no flip, no blur."""

_base_ = './digit_photos_pixels.py'

view = [
    dict(type='RandomResizedCrop', scale=16, crop_ratio_range=(0.5, 1.0), backend='cv2'),
    dict(type='RandomApply', transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4)], prob=0.8),
]
batched_views = dict(type='us3l_mm.BatchedViewsPreprocessor', transforms=[view], num_views=2)
train_dataloader = dict(
    batch_size=128,
    num_workers=0,  # a batch is one indexing operation
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='us3l_mm.take_batch'),
    dataset=dict(type='us3l_mm.InMemory', dataset=dict(type='us3l_mm.DigitPhotos', split='train', pipeline=[])),
)

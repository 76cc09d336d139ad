"""Two views of digits in photographs at 20 x 20 pixels, made in batches: crop, colour jitter, grey; no flip, no blur."""

_base_ = './digit_photos_pixels.py'

view = [
    dict(type='RandomResizedCrop', scale=20, crop_ratio_range=(0.4, 1.0), backend='cv2'),
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.299, 0.587, 0.114)),  # of RGB
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

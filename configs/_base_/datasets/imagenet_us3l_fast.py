"""Two views of ImageNet: crops are cut in the workers, flips, colours and blur are made on the training device."""

_base_ = './imagenet_us3l.py'

rgb_grey = dict(_base_.view[3], channel_weights=_base_.view[3].channel_weights[::-1])  # they turn images to RGB first
batched_views = dict(
    type='us3l_mm.BatchedViewsPreprocessor',
    transforms=[[*_base_.view[1:3], rgb_grey, *_base_.view[4:]]],
    num_views=2,
    channels_last=True,
    non_blocking=True,
)  # for model.data_preprocessor
train_dataloader = dict(
    pin_memory=True,
    dataset=dict(
        pipeline=[
            dict(type='us3l_mm.LoadResizedCrops', scale=224, crop_ratio_range=(0.2, 1.0), num_views=2),
            dict(type='PackInputs'),
        ],
    ),
)

"""Two views of CIFAR-10 by the transforms of ``cifar100_us3l.py``, at 224 pixels."""

_base_ = './cifar100_us3l.py'

view = [
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic', backend='cv2'),
    *_base_.view[1:],
]
train_dataloader = dict(
    dataset=dict(
        type='CIFAR10',
        data_root='data/cifar10',
        pipeline=[dict(type='MultiView', num_views=2, transforms=[view]), dict(type='PackInputs')],
    ),
)

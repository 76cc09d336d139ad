"""CIFAR-100 with labels, for supervised training: padded crop and flip; test images as they are."""

_base_ = './cifar100_linear.py'

train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ]
    ),
)
val_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader

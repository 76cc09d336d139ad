"""CIFAR-100 held in memory, of the GPU if there is one; the views of ``cifar100_us3l.py`` are made on the training device."""

_base_ = './cifar100_us3l.py'

batched_views = dict(
    type='us3l_mm.BatchedViewsPreprocessor',
    transforms=[_base_.view],
    num_views=2,
    channels_last=True,
    non_blocking=True,
)  # for model.data_preprocessor
train_dataloader = dict(
    batch_size=512,
    num_workers=0,  # a batch is one indexing operation
    pin_memory=False,  # on a GPU they are there
    collate_fn=dict(type='us3l_mm.take_batch'),
    dataset=dict(
        _delete_=True,
        type='us3l_mm.InMemory',
        device='auto',
        dataset=dict(type='CIFAR100', download=False, data_root='data/cifar100', split='train', pipeline=[]),
    ),
)

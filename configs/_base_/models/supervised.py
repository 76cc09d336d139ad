"""Supervised ResNet-18 of one width for small images: mmpretrain's ImageClassifier."""

_base_ = './r18_cifar.py'

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=100),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=512, loss=dict(type='CrossEntropyLoss')),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

"""MoCo v2 for one network: mmpretrain's, with the paper's projector and queue."""

_base_ = './r18_cifar.py'

model = dict(
    type='MoCo',
    queue_len=2048,
    feat_dim=256,
    momentum=1 - 0.999,  # mmpretrain counts the share of the new weights
    neck=dict(type='MoCoV2Neck', in_channels=512, hid_channels=2048, out_channels=256),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)

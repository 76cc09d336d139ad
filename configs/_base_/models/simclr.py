"""SimCLR for one network: mmpretrain's, with the paper's projector and temperature."""

_base_ = './r18_cifar.py'

model = dict(
    type='SimCLR',
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=256,
        num_layers=3,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.5),
)

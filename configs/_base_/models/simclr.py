"""SimCLR for one network: mmpretrain's, with the paper's projector and temperature."""

_base_ = ['./r18_cifar.py', './mlp_heads.py']

model = dict(
    type='SimCLR',
    neck=dict(_base_.projector_nce, type='NonLinearNeck', norm_cfg=dict(type='BN1d')),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.5),
)

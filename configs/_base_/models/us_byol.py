"""US-Net with BYOL: a momentum target for the widest network, which teaches the others in place."""

_base_ = './us3l_mse.py'

model = dict(
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet_CIFAR', depth=18, zero_init_residual=False),
    neck=dict(in_channels=512),
    distill_predictor=None,
    sub_target='online',
    sampler=dict(dynamic=False, num_widths=4),  # four as in US-Net: the paper counts 4 T
    group_reg=None,
    update='accumulate',
)

"""US-Net with MoCo v3: a momentum target for the widest network, which teaches the others in place."""

_base_ = './us_simclr.py'

model = dict(
    neck=dict(with_bias=False, with_last_bn=True, with_last_bn_affine=False, with_last_bias=False),
    head=dict(
        _delete_=True,
        type='MoCoV3Head',
        temperature=0.2,
        # 2 T as MoCo v3, and twice that because US3L takes the mean of the two views where MoCo v3 takes the sum.
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * 2 * 0.2),
        predictor=_base_.predictor_mocov3,
    ),
    distill_loss=dict(temperature=0.2),
    base_target='momentum',
    momentum_end=1.0,
)

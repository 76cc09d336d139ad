"""MoCo v3 for one network: mmpretrain's, with the paper's projector, predictor and temperature."""

_base_ = ['./r18_cifar.py', './mlp_heads.py']

norm_cfg = dict(type='BN1d')
model = dict(
    type='MoCoV3',
    base_momentum=1 - 0.99,  # mmpretrain counts the share of the new weights; it falls to 0 by a cosine
    neck=dict(_base_.projector_mocov3, type='NonLinearNeck', in_channels=512, norm_cfg=norm_cfg),
    head=dict(
        type='MoCoV3Head',
        temperature=0.2,
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * 0.2),  # 2 T, as MoCo v3
        predictor=dict(_base_.predictor_mocov3, norm_cfg=norm_cfg),
    ),
)

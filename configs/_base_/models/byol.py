"""BYOL for one network: mmpretrain's, with the paper's projector and predictor."""

_base_ = ['./r18_cifar.py', './mlp_heads.py']

norm_cfg = dict(type='BN1d')
model = dict(
    type='BYOL',
    base_momentum=1 - 0.99,  # mmpretrain counts the share of the new weights; it falls to 0 by a cosine
    neck=dict(_base_.projector_mse, in_channels=512, norm_cfg=norm_cfg),
    head=dict(
        type='LatentPredictHead',
        # mmpretrain doubles the sum of the two views' losses; the learning rates are for their mean.
        loss=dict(type='CosineSimilarityLoss', scale_factor=1 / 4),
        predictor=dict(_base_.predictor_mse, norm_cfg=norm_cfg),
    ),
)

"""BYOL for one network: mmpretrain's, with the paper's projector and predictor."""

_base_ = './r18_cifar.py'

model = dict(
    type='BYOL',
    base_momentum=1 - 0.99,  # mmpretrain counts the share of the new weights; it falls to 0 by a cosine
    neck=dict(
        type='us3l_mm.SlimmableNonLinearNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=2048,
        num_layers=3,
        with_bias=(True, False),
        with_last_bn=False,
        with_last_bias=True,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='LatentPredictHead',
        # mmpretrain doubles the sum of the two views' losses; the learning rates are for their mean.
        loss=dict(type='CosineSimilarityLoss', scale_factor=1 / 4),
        predictor=dict(
            type='NonLinearNeck',
            in_channels=2048,
            hid_channels=2048,
            out_channels=2048,
            num_layers=2,
            with_bias=False,
            with_last_bn=False,
            with_last_bias=True,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d'),
        ),
    ),
)

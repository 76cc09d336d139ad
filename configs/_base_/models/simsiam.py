"""SimSiam for one network: mmpretrain's, with the paper's projector and predictor."""

_base_ = './r18_cifar.py'

model = dict(
    type='SimSiam',
    neck=dict(
        type='us3l_mm.SlimmableNonLinearNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=2048,
        num_layers=3,
        with_bias=(True, False),
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,  # the batch norm behind it takes any bias away
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='LatentPredictHead',
        loss=dict(type='CosineSimilarityLoss'),
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

"""SimSiam for one network: mmpretrain's, with the paper's projector and predictor."""

_base_ = ['./r18_cifar.py', './mlp_heads.py']

norm_cfg = dict(type='BN1d')
model = dict(
    type='SimSiam',
    neck=dict(
        _base_.projector_mse,
        in_channels=512,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,  # the batch norm behind it takes any bias away
        norm_cfg=norm_cfg,
    ),
    head=dict(
        type='LatentPredictHead',
        loss=dict(type='CosineSimilarityLoss'),
        predictor=dict(_base_.predictor_mse, norm_cfg=norm_cfg),
    ),
)

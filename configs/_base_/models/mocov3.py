"""MoCo v3 for one network: mmpretrain's, with the paper's projector, predictor and temperature."""

_base_ = './r18_cifar.py'

model = dict(
    type='MoCoV3',
    base_momentum=1 - 0.99,  # mmpretrain counts the share of the new weights; it falls to 0 by a cosine
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='MoCoV3Head',
        temperature=0.2,
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * 0.2),  # 2 T, as MoCo v3
        predictor=dict(
            type='NonLinearNeck',
            in_channels=256,
            hid_channels=2048,
            out_channels=256,
            num_layers=2,
            with_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d'),
        ),
    ),
)

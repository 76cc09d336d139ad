"""SEED-MSE: a ResNet-18 of one width learns the embeddings of a frozen ResNet-50 of BYOL."""

_base_ = './seed.py'

model = dict(
    head=dict(
        loss=dict(_delete_=True, type='CosineSimilarityLoss'),
        predictor=dict(
            _delete_=True,
            type='NonLinearNeck',
            in_channels=2048,
            hid_channels=2048,
            out_channels=2048,
            num_layers=2,
            with_bias=False,
            with_last_bn=False,
            with_last_bias=True,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d', track_running_stats=False),
        ),
    ),
)

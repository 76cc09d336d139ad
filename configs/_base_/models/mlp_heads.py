"""Projectors and predictors, which the model bases take by name, such as ``head=dict(predictor=_base_.predictor_mse)``.

Heads that serve several widths use the statistics of the batch. Methods for one network set ``norm_cfg=dict(type='BN1d')``.
"""

projector_mse = dict(
    type='us3l_mm.SlimmableNonLinearNeck',
    in_channels=2048,
    hid_channels=2048,
    out_channels=2048,
    num_layers=3,
    with_bias=(True, False),
    with_last_bn=False,
    with_last_bias=True,
)
projector_nce = dict(projector_mse, in_channels=512, out_channels=256, with_bias=True)
projector_mocov3 = dict(
    type='us3l_mm.SlimmableNonLinearNeck',
    in_channels=192,
    hid_channels=2048,
    out_channels=256,
    num_layers=3,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
)
predictor_mse = dict(
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
)
predictor_nce = dict(predictor_mse, in_channels=256, out_channels=256)
predictor_mocov3 = dict(
    type='NonLinearNeck',
    in_channels=256,
    hid_channels=2048,
    out_channels=256,
    num_layers=2,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d', track_running_stats=False),
)

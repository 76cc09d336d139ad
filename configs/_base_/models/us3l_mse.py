"""US3L for ImageNet, ResNet-50: MSE base (BYOL), MSE distillation, auxiliary head (ablation case 4)."""

predictor = dict(
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
model = dict(
    type='us3l_mm.US3L',
    backbone=dict(type='us3l_mm.SlimmableResNet', depth=50, zero_init_residual=False),
    neck=dict(
        type='us3l_mm.SlimmableNonLinearNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=2048,
        num_layers=3,
        with_bias=(True, False),
        with_last_bn=False,
        with_last_bias=True,
    ),
    head=dict(type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), predictor=predictor),
    distill_loss=dict(type='CosineSimilarityLoss'),
    distill_predictor=predictor,
    sampler=dict(width_range=(0.25, 1.0), num_widths=3, dynamic=True, num_stages=4, sandwich=True),
    base_target='momentum',
    sub_target='momentum',
    momentum=0.99,
    group_reg=dict(coefficient=0.5 * 1e-4, alpha=0.05, num_groups=8),
    update='per_width',
)

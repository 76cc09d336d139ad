"""US3L for ViT: MoCo v3 base, MSE distillation behind a second predictor, decay by AdamW; heads synchronised."""

predictor = dict(
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
model = dict(
    type='us3l_mm.US3L',
    backbone=dict(type='us3l_mm.SlimmableVisionTransformer', arch='tiny', img_size=224, stop_grad_conv1=True),
    neck=dict(
        type='us3l_mm.SlimmableNonLinearNeck',
        in_channels=192,
        hid_channels=2048,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_avg_pool=False,
    ),
    head=dict(
        type='MoCoV3Head',
        temperature=0.2,
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * 0.2),  # 2 T, as MoCo v3
        predictor=predictor,
    ),
    distill_loss=dict(type='CosineSimilarityLoss'),
    distill_predictor=predictor,
    sampler=dict(width_range=(0.25, 1.0), num_widths=3, dynamic=True, num_stages=4, sandwich=True),
    base_target='momentum',
    sub_target='momentum',
    momentum=0.99,
    momentum_end=1.0,
    group_reg=None,
    update='per_width',
)
sync_bn = 'torch'  # batch norm is in the heads only

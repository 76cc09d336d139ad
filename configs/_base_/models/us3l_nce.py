"""US3L for small images, ResNet-18: NCE base, MSE distillation, auxiliary head (ablation case 13)."""

model = dict(
    type='us3l_mm.US3L',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[0.4914 * 255, 0.4822 * 255, 0.4465 * 255],
        std=[0.2023 * 255, 0.1994 * 255, 0.2010 * 255],
        to_rgb=False,  # CIFAR's images are RGB
    ),
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, zero_init_residual=False),
    neck=dict(
        type='us3l_mm.SlimmableNonLinearNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=256,
        num_layers=3,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
    ),
    head=dict(
        type='LatentPredictHead',
        loss=dict(type='us3l_mm.NTXentLoss', temperature=0.5),
        predictor=dict(type='torch.nn.Identity'),
    ),
    distill_loss=dict(type='CosineSimilarityLoss'),
    distill_predictor=dict(
        type='NonLinearNeck',
        in_channels=256,
        hid_channels=2048,
        out_channels=256,
        num_layers=2,
        with_bias=False,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d', track_running_stats=False),
    ),
    sampler=dict(width_range=(0.25, 1.0), num_widths=3, dynamic=True, num_stages=4, sandwich=True),
    base_target='momentum',
    sub_target='momentum',
    momentum=0.99,
    group_reg=dict(coefficient=0.5 * 1e-4, alpha=0.05, num_groups=8),
    update='per_width',
)

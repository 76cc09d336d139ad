"""SEED: a ResNet-18 of one width learns the similarities of a frozen ResNet-50 of BYOL."""

_base_ = './r18_cifar.py'

projector = dict(
    type='us3l_mm.SlimmableNonLinearNeck',
    hid_channels=2048,
    out_channels=2048,
    num_layers=3,
    with_bias=(True, False),
    with_last_bn=False,
    with_last_bias=True,
    norm_cfg=dict(type='BN1d'),  # with running statistics, which the frozen teacher uses
)
model = dict(
    type='us3l_mm.SEED',
    neck=dict(in_channels=512, **projector),
    head=dict(
        type='LatentPredictHead',
        loss=dict(
            type='us3l_mm.SEEDLoss',
            queue_len=32768,
            feat_dim=2048,
            student_temperature=0.5,
            teacher_temperature=1e-4,
        ),
        predictor=dict(type='torch.nn.Identity'),
    ),
    teacher=dict(
        backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=50, width=1.0, zero_init_residual=False),
        neck=dict(in_channels=2048, **projector),
        checkpoint='work_dirs/byol_r50_8xb64-400e_cifar100/epoch_400.pth',
    ),
)

"""SEED: a ResNet-18 of one width learns the similarities of a frozen ResNet-50 of BYOL."""

_base_ = ['./r18_cifar.py', './mlp_heads.py']

projector = dict(_base_.projector_mse, norm_cfg=dict(type='BN1d'))  # the frozen teacher uses running statistics
model = dict(
    type='us3l_mm.SEED',
    neck=dict(projector, in_channels=512),
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
        neck=projector,
        checkpoint='work_dirs/byol_r50_8xb64-400e_cifar100/epoch_400.pth',
    ),
)

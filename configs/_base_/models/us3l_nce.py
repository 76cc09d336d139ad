"""US3L for small images, ResNet-18: NCE base, MSE distillation, auxiliary head (ablation case 13)."""

_base_ = './us3l.py'

model = dict(
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, zero_init_residual=False),
    neck=_base_.projector_nce,
    head=dict(
        type='LatentPredictHead',
        loss=dict(type='us3l_mm.NTXentLoss', temperature=0.5),
        predictor=dict(type='torch.nn.Identity'),
    ),
    distill_predictor=_base_.predictor_nce,
)

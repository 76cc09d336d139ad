"""US3L for ImageNet, ResNet-50: MSE base (BYOL), MSE distillation, auxiliary head (ablation case 4)."""

_base_ = './us3l.py'

model = dict(
    backbone=dict(type='us3l_mm.SlimmableResNet', depth=50, zero_init_residual=False),
    neck=_base_.projector_mse,
    head=dict(type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), predictor=_base_.predictor_mse),
    distill_predictor=_base_.predictor_mse,
)

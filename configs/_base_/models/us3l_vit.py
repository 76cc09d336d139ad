"""US3L for ViT: MoCo v3 base, MSE distillation behind a second predictor, decay by AdamW; heads synchronised."""

_base_ = './us3l.py'

model = dict(
    backbone=dict(type='us3l_mm.SlimmableVisionTransformer', arch='tiny', img_size=224, stop_grad_conv1=True),
    neck=dict(_base_.projector_mocov3, with_avg_pool=False),
    head=dict(
        type='MoCoV3Head',
        temperature=0.2,
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * 0.2),  # 2 T, as MoCo v3
        predictor=_base_.predictor_mocov3,
    ),
    distill_predictor=_base_.predictor_mocov3,
    momentum_end=1.0,
    group_reg=None,
)
sync_bn = 'torch'  # batch norm is in the heads only

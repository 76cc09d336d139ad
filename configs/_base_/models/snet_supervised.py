"""Supervised S-Net: four widths, each with batch norms of its own, all trained in each iteration."""

_base_ = './supervised.py'

widths = [1.0, 0.75, 0.5, 0.25]
width = None
model = dict(
    type='us3l_mm.SlimmableClassifier',
    backbone=dict(
        width=None,
        conv_cfg=dict(type='us3l_mm.SlimmableConv2d', rounding='int'),
        norm_cfg=dict(type='us3l_mm.SwitchableBatchNorm2d', widths=widths),
    ),
    head=dict(type='us3l_mm.SlimmableLinearClsHead'),
    sampler=dict(widths=widths, dynamic=False),
    distill=False,
    eval_widths=widths,
)
val_evaluator = dict(type='us3l_mm.WidthAccuracy', topk=(1, 5))
test_evaluator = val_evaluator

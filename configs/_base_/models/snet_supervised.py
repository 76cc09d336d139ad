"""Supervised S-Net: four widths, each with batch norms of its own, all trained in each iteration."""

_base_ = ['./supervised.py', './snet_layers.py']

width = None
model = dict(
    type='us3l_mm.SlimmableClassifier',
    backbone=dict(width=None, **_base_.snet_layers),
    head=dict(type='us3l_mm.SlimmableLinearClsHead'),
    sampler=dict(widths=_base_.widths, dynamic=False),
    distill=False,
    eval_widths=_base_.widths,
)
val_evaluator = dict(type='us3l_mm.WidthAccuracy', topk=(1, 5))
test_evaluator = val_evaluator

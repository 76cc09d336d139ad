"""Supervised US-Net: any width, sandwich rule; calibrate its batch norms, then test."""

_base_ = './supervised.py'

widths = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]
width = None
model = dict(
    type='us3l_mm.SlimmableClassifier',
    backbone=dict(width=None),
    head=dict(type='us3l_mm.SlimmableLinearClsHead'),
    sampler=dict(num_widths=4, dynamic=False),
    distill=False,
    eval_widths=widths,
)
test_evaluator = dict(type='us3l_mm.WidthAccuracy', topk=(1, 5))

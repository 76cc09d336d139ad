"""Supervised US-Net ResNet-18, 16 base channels, on scikit-learn's digits.

python tools/train.py configs/digits/usnet_r18_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us_supervised.py', '../_base_/digits_supervised_2e.py']

model = dict(**_base_.net, eval_widths=[1.0, 0.75, 0.5, 0.25])
test_evaluator = dict(topk=(1,))
val_dataloader = val_evaluator = val_cfg = None  # batch norm has no statistics before it is calibrated

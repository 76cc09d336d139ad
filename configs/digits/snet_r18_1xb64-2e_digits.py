"""Supervised S-Net ResNet-18, 16 base channels, on scikit-learn's digits.

python tools/train.py configs/digits/snet_r18_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/snet_supervised.py', '../_base_/digits_supervised_2e.py']

model = dict(**_base_.net)
test_evaluator = dict(topk=(1,))
val_evaluator = test_evaluator

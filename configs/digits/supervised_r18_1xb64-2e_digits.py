"""Supervised ResNet-18 of one width, 16 base channels, on scikit-learn's digits.

python tools/train.py configs/digits/supervised_r18_1xb64-2e_digits.py --width 0.5
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/supervised.py', '../_base_/digits_supervised_2e.py']

model = dict(**_base_.net)
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

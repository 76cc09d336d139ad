"""MoCo v3 for one width, ResNet-18 of 16 base channels on scikit-learn's digits.

python tools/train.py configs/digits/mocov3_r18_1xb64-2e_digits.py --width 0.5
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/mocov3.py', '../_base_/digits_2e.py']

model = dict(**_base_.net, head=dict(predictor=_base_.predictor))

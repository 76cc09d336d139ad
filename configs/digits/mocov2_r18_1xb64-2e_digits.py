"""MoCo v2 for one width, ResNet-18 of 16 base channels on scikit-learn's digits.

python tools/train.py configs/digits/mocov2_r18_1xb64-2e_digits.py --width 0.5
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/mocov2.py', '../_base_/digits_2e.py']

model = dict(**_base_.net, queue_len=512, feat_dim=128)

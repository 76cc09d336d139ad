"""US-Net with BYOL, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/us-byol_r18_1xb128-48e_digitphotos.py
Result: logistic regression on frozen features (%), mean of three seeds: 34.17, 26.40 and 19.97 at widths 1.0, 0.5 and
0.25, in the comparison of docs/comparison.md, commit 063c538.
A CPU is enough.
"""

_base_ = ['../_base_/models/us_byol.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net, momentum=_base_.momentum, head=dict(predictor=_base_.predictor))

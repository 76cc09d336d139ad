"""US-Net with SimSiam, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/us-simsiam_r18_1xb128-48e_digitphotos.py
Result: logistic regression on frozen features (%), mean of three seeds: 29.40, 22.73 and 17.30 at widths 1.0, 0.5 and
0.25, in the comparison of docs/comparison.md, commit 063c538.
A CPU is enough.
"""

_base_ = ['../_base_/models/us_simsiam.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net, head=dict(predictor=_base_.predictor))

"""US3L, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/r18_1xb128-48e_digitphotos.py
Result: logistic regression on frozen features (%), mean of three seeds: 88.97, 85.60 and 81.97 at widths 1.0, 0.5 and
0.25, in the comparison of docs/comparison.md, commit 063c538.
A CPU is enough.
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net, momentum=_base_.momentum, distill_predictor=_base_.predictor)
optim_wrapper = dict(optimizer=dict(weight_decay=0))

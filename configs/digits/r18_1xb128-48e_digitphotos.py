"""US3L, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/r18_1xb128-48e_digitphotos.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net, momentum=_base_.momentum, distill_predictor=_base_.predictor)
optim_wrapper = dict(optimizer=dict(weight_decay=0))

"""US3L ResNet-18 of 16 base channels on scikit-learn's digits: a real pretraining that fits a laptop.

python tools/train.py configs/digits/r18_1xb64-16e_digits.py
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/digits_16e.py']

model = dict(**_base_.net, distill_predictor=_base_.predictor)

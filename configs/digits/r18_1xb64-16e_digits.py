"""US3L ResNet-18 of 16 base channels on scikit-learn's digits: a real pretraining that fits a laptop.

python tools/train.py configs/digits/r18_1xb64-16e_digits.py
Result: logistic regression on frozen features (%), one seed: 98.6, 98.6, 98.0 and 94.7 at widths 1.0, 0.75, 0.5 and 0.25, as
`make demo` printed at commit 8e7121c on 2 CPU cores.
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/digits_16e.py']

model = dict(**_base_.net, distill_predictor=_base_.predictor)

"""US3L MobileNetV2 of a quarter of the channels on scikit-learn's digits.

python tools/train.py configs/digits/mbv2_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us3l_nce.py', '../_base_/digits_2e.py']

model = dict(
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableMobileNetV2_CIFAR', widen_factor=0.25),
    neck=dict(_base_.net.neck, in_channels=1280),
    distill_predictor=_base_.predictor,
)
optim_wrapper = dict(optimizer=dict(weight_decay=0))  # the group regularisation decays

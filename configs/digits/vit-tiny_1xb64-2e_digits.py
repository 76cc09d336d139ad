"""US3L ViT-Tiny on scikit-learn's digits, in 4 patches of 8 pixels.

python tools/train.py configs/digits/vit-tiny_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us3l_vit.py', '../_base_/digits_2e.py']

model = dict(
    backbone=dict(patch_size=8, img_size=16),
    neck=dict(hid_channels=256, out_channels=128),
    head=dict(predictor=_base_.predictor),
    distill_predictor=_base_.predictor,
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1.5e-4, weight_decay=0.1))

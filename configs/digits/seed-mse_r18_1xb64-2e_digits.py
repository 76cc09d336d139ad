"""SEED-MSE, ResNet-18 of 16 base channels on scikit-learn's digits, taught by a full-width BYOL network.

python tools/train.py configs/digits/byol_r18_1xb64-2e_digits.py    # the teacher
python tools/train.py configs/digits/seed-mse_r18_1xb64-2e_digits.py --width 0.5
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/seed_mse.py', '../_base_/digits_2e.py']

model = dict(
    **_base_.net,
    head=dict(predictor=_base_.predictor),
    teacher=dict(
        backbone=dict(depth=18, **_base_.net.backbone),
        neck=_base_.net.neck,
        checkpoint='work_dirs/byol_r18_1xb64-2e_digits/epoch_2.pth',
    ),
)

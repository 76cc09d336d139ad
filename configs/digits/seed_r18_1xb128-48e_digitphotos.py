"""SEED, ResNet-18 of 16 base channels on digits in photographs, taught by a full-width BYOL network.

python tools/train.py configs/digits/byol_r18_1xb128-48e_digitphotos.py    # the teacher
python tools/train.py configs/digits/seed_r18_1xb128-48e_digitphotos.py --width 0.5
Result: logistic regression on frozen features (%), mean of three seeds: 43.77, 35.97 and 27.53 at widths 1.0, 0.5 and
0.25, in the comparison of docs/comparison.md, commit 063c538.
A CPU is enough.
"""

_base_ = ['../_base_/models/seed.py', '../_base_/digit_photos_48e.py']

model = dict(
    **_base_.net,
    head=dict(loss=dict(queue_len=2048, feat_dim=128)),
    teacher=dict(
        backbone=dict(depth=18, **_base_.net.backbone),
        neck=_base_.net.neck,
        checkpoint='work_dirs/byol_r18_1xb128-48e_digitphotos/epoch_48.pth',
    ),
)

"""SEED, ResNet-18 of 16 base channels on digits in photographs, taught by a full-width BYOL network.

python tools/train.py configs/digits/byol_r18_1xb128-48e_digitphotos.py    # the teacher
python tools/train.py configs/digits/seed_r18_1xb128-48e_digitphotos.py --width 0.5
A CPU is enough. Result: not run yet.
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

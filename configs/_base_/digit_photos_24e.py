"""Data, schedule and sizes for comparing methods on digits in photographs; see ``digits_2e.py`` for the sizes.

NCE losses take this rate and weight decay; MSE losses ``mse``.
"""

_base_ = ['./datasets/digit_photos_us3l.py', './default_runtime.py']

max_epochs = 24
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(logger=dict(interval=23))
mse = dict(lr=0.05, weight_decay=5e-4)
net = dict(
    data_preprocessor=_base_.batched_views,
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128, hid_channels=256, out_channels=128),
)
predictor = dict(in_channels=128, hid_channels=256, out_channels=128)

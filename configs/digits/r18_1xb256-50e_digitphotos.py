"""Linear evaluation of the small ResNet-18 on digits in photographs, at 3 widths.

python tools/linear_probe.py configs/digits/r18_1xb256-50e_digitphotos.py CALIBRATED_CHECKPOINT --protocol fast
A CPU is enough. Heads of docs/comparison.md are by --protocol fast. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe.py',
    '../_base_/datasets/digit_photos_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    widths=[1.0, 0.5, 0.25],
    backbone=dict(stem_channels=16, base_channels=16),
    head=dict(num_classes=10),
)
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1.0))
param_scheduler = [dict(type='MultiStepLR', milestones=[30, 40], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=50, val_interval=50)
auto_scale_lr = dict(base_batch_size=256)

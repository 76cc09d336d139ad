"""AdamW, 300 epochs of which 40 warm up, then a cosine per iteration, for 512 images an iteration."""

_base_ = './warmup_cosine.py'

max_epochs, warmup_epochs = 300, 40
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4 * 512 / 256, weight_decay=0.1))
param_scheduler = [
    dict(_base_.warmup, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)

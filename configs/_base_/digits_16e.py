"""US3L on scikit-learn's digits: ``digits_2e.py`` for 16 epochs, decayed by the group regularisation only, and watched."""

_base_ = ['./digits_2e.py', './monitor_digits.py']

max_epochs = 16
optim_wrapper = dict(optimizer=dict(weight_decay=0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=4))

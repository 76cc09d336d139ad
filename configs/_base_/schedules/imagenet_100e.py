"""ImageNet: as ``sgd_cosine.py`` for 100 epochs, with learning rate 0.05 for the authors' 480 images an iteration."""

_base_ = './sgd_cosine.py'

max_epochs = 100
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(max_epochs=max_epochs)

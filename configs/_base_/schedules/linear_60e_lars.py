"""Linear evaluation on ImageNet: LARS for 60 epochs, with learning rate 0.8 for 2,048 images, falling by a cosine."""

max_epochs = 60
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='LARS', lr=0.8, momentum=0.9, weight_decay=0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=10)
val_cfg = dict()
test_cfg = dict()

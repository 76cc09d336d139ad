"""Linear evaluation on small images: SGD, 100 epochs, learning rate 30, divided by 10 after 60 and after 80."""

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=30, momentum=0.9, weight_decay=0))
param_scheduler = [dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
val_cfg = dict()
test_cfg = dict()

"""COCO with boxes and masks, as in mmdet, with the loading of images that names bad files."""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

train_pipeline = [dict(_base_.train_pipeline[0], _scope_='us3l_mm'), *_base_.train_pipeline[1:]]
test_pipeline = [dict(_base_.test_pipeline[0], _scope_='us3l_mm'), *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

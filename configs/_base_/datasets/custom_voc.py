"""A set of one's own in VOC's XML format: JPEGImages/, Annotations/ and ImageSets/Main/{train,val}.txt."""

_base_ = './voc_pipelines.py'

data_root = 'data/custom_voc/'
classes = None  # data_root and classes: set them by --cfg-options, they reach everything that depends on them
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='us3l_mm.CustomVOC',
        data_root=data_root,
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.voc_train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='us3l_mm.CustomVOC',
        data_root=data_root,
        ann_file='ImageSets/Main/val.txt',
        data_prefix=dict(sub_data_root=''),
        test_mode=True,
        pipeline=_base_.voc_test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VOCMetric', eval_mode='area', iou_thrs=_base_.voc_iou_thrs)
test_evaluator = val_evaluator

"""Pascal VOC: trainval of 2007 and 2012 to train, test of 2007."""

_base_ = ['mmdet::_base_/datasets/voc0712.py', './voc_pipelines.py']

train_pipeline, test_pipeline = _base_.voc_train_pipeline, _base_.voc_test_pipeline
trainval = [
    dict(
        type='VOCDataset',
        data_root='data/VOCdevkit/',
        ann_file=f'{year}/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root=f'{year}/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    )
    for year in ('VOC2007', 'VOC2012')
]
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(_delete_=True, type='ConcatDataset', ignore_keys=['dataset_type'], datasets=trainval),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(iou_thrs=_base_.voc_iou_thrs)
test_evaluator = val_evaluator

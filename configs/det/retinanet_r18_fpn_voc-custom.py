"""RetinaNet R18-FPN on a set of one's own in VOC's XML format, from US3L weights, at one width: the light one.

python tools/train.py configs/det/retinanet_r18_fpn_voc-custom.py --width 0.5 --data-root FOLDER --backbone CALIBRATED_CHECKPOINT
1 GPU of 4 images; the learning rate follows the batch. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_retinanet_r50_fpn.py',
    '../_base_/datasets/custom_voc.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
]

model = _base_.retinanet_r18
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),  # small sets have few iterations
    _base_.param_scheduler[1],  # divides the rate as the base does
]
auto_scale_lr = dict(enable=True)

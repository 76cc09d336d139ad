"""Faster R-CNN R50-FPN on a set of one's own in VOC's XML format, from US3L weights, at one width.

python tools/train.py configs/det/faster-rcnn_r50_fpn_voc-custom.py --width 0.5 --cfg-options \
    data_root=FOLDER classes=cat,dog model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
1 GPU of 4 images; the learning rate follows the batch. Result: not run yet.
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/custom_voc.py',
    '../_base_/models/det_resnet.py',
]

norm_cfg = {{_base_.us3l_norm}}
model = dict(
    backbone={{_base_.us3l_backbone}},
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),  # small sets have few iterations
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
auto_scale_lr = dict(enable=True)
# Boxes in files of unknown origin: an infinite loss shall not go unnoticed.
custom_hooks = [dict(type='us3l_mm.CheckInvalidLossHook', interval=50)]

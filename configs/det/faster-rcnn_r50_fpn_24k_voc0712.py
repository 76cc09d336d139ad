"""Faster R-CNN R50-FPN on Pascal VOC from US3L weights, at one width: 24k iterations.

bash tools/dist_train.sh configs/det/faster-rcnn_r50_fpn_24k_voc0712.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/voc0712_24k.py',
    '../_base_/models/det_resnet.py',
]

norm_cfg = {{_base_.us3l_norm}}
model = dict(
    backbone={{_base_.us3l_backbone}},
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg, num_classes=20)
    ),
)

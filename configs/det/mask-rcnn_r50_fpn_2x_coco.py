"""Mask R-CNN R50-FPN on COCO for twice as long; see mask-rcnn_r50_fpn_1x_coco.py.

bash tools/dist_train.sh configs/det/mask-rcnn_r50_fpn_2x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
]

"""Faster R-CNN R50-FPN on COCO from US3L weights, at one width: MoCo's protocol, all layers trained, BN synchronised.

bash tools/dist_train.sh configs/det/faster-rcnn_r50_fpn_1x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

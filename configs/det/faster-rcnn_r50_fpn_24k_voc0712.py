"""Faster R-CNN R50-FPN on Pascal VOC from US3L weights, at one width: 24k iterations.

bash tools/dist_train.sh configs/det/faster-rcnn_r50_fpn_24k_voc0712.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_faster-rcnn_r50_fpn.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/det_24k.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

"""Faster R-CNN R50-C4 on Pascal VOC from US3L weights, at one width: MoCo's protocol, 24k iterations.

bash tools/dist_train.sh configs/det/faster-rcnn_r50_c4_24k_voc0712.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py',
    '../_base_/models/det_resnet.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/det_24k.py',
]

model = dict(
    data_preprocessor=_base_.us3l_pixels,
    backbone=_base_.us3l_backbone,
    roi_head=dict(shared_head=_base_.us3l_shared_head, bbox_head=dict(num_classes=20)),
)

"""RetinaNet R50-FPN on COCO for twice as long; see retinanet_r50_fpn_1x_coco.py.

bash tools/dist_train.sh configs/det/retinanet_r50_fpn_2x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=0.01))

"""RetinaNet R18-FPN on COCO from US3L weights, at one width: all layers trained, BN synchronised.

bash tools/dist_train.sh configs/det/retinanet_r18_fpn_1x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = './retinanet_r50_fpn_1x_coco.py'

model = _base_.retinanet_r18

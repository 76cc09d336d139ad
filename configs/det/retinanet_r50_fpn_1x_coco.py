"""RetinaNet R50-FPN on COCO from US3L weights, at one width: all layers trained, BN synchronised.

bash tools/dist_train.sh configs/det/retinanet_r50_fpn_1x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/models/det_resnet.py']

# No batch norm in the heads: their layers serve all levels, whose statistics differ.
model = dict(backbone={{_base_.us3l_backbone}}, neck=dict(norm_cfg={{_base_.us3l_norm}}))

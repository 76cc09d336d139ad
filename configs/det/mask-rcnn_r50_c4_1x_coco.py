"""Mask R-CNN R50-C4 on COCO from US3L weights, at one width: MoCo's protocol, all layers trained, BN synchronised.

bash tools/dist_train.sh configs/det/mask-rcnn_r50_c4_1x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py', '../_base_/models/det_resnet.py']

model = dict(
    data_preprocessor={{_base_.us3l_pixels}},
    backbone={{_base_.us3l_backbone}},
    roi_head=dict(shared_head={{_base_.us3l_shared_head}}),
)

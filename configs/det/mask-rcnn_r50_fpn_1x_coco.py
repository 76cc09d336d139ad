"""Mask R-CNN R50-FPN on COCO from US3L weights, at one width: MoCo's protocol, all layers trained, BN synchronised.

bash tools/dist_train.sh configs/det/mask-rcnn_r50_fpn_1x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# A backbone of fixed width is made of plain Conv2d and BatchNorm2d, so that SyncBN can't be its norm_cfg: the
# Runner turns every BatchNorm2d of the model into SyncBN when several GPUs train, and none otherwise.
sync_bn = 'torch'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='us3l_mm.SlimmableResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        width=1.0,  # this and neck.in_channels: set both by --width
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/r50_8xb256/epoch_100_calibrated.pth', prefix='backbone.'
        ),
    ),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

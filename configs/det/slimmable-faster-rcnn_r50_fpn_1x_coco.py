"""Faster R-CNN R50-FPN on COCO for all widths at once: sandwich rule, in-place distillation; from US3L weights.

bash tools/dist_train.sh configs/det/slimmable-faster-rcnn_r50_fpn_1x_coco.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT_OF_THE_PRETRAINING
python tools/calibrate_bn.py configs/det/slimmable-faster-rcnn_r50_fpn_1x_coco.py CHECKPOINT
python tools/test.py configs/det/slimmable-faster-rcnn_r50_fpn_1x_coco.py CALIBRATED_CHECKPOINT \
    --widths 1.0 0.75 0.5 0.25
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/models/slimmable_detector.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    **_base_.slimmable_detector,
    detector='FasterRCNN',
    backbone=dict(
        type='us3l_mm.SlimmableResNet',
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=None,  # slimmable
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/r50_8xb256/epoch_100.pth', _delete_=True),
    ),
    neck=dict(conv_cfg=_base_.full_conv),
)
val_dataloader = val_evaluator = val_cfg = None  # batch norm has no statistics before it is calibrated

"""RetinaNet R50-FPN on COCO for all widths at once: sandwich rule, in-place distillation; from US3L weights.

bash tools/dist_train.sh configs/det/slimmable-retinanet_r50_fpn_1x_coco.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT_OF_THE_PRETRAINING
python tools/calibrate_bn.py configs/det/slimmable-retinanet_r50_fpn_1x_coco.py CHECKPOINT
python tools/test.py configs/det/slimmable-retinanet_r50_fpn_1x_coco.py CALIBRATED_CHECKPOINT --widths 1.0 0.75 0.5 0.25
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = ['./retinanet_r50_fpn_1x_coco.py', '../_base_/models/slimmable_detector.py']

model = dict(
    **_base_.slimmable_detector,
    detector='RetinaNet',
    backbone=dict(width=None),
    neck=dict(conv_cfg=_base_.full_conv, norm_cfg=None),
)
sync_bn = None  # torch's SyncBN has no widths; norm_cfg=dict(..., sync=True) of the slimmable one synchronises
val_dataloader = val_evaluator = val_cfg = None  # batch norm has no statistics before it is calibrated

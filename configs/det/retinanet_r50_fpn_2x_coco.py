"""RetinaNet R50-FPN on COCO for twice as long; see retinanet_r50_fpn_1x_coco.py.

bash tools/dist_train.sh configs/det/retinanet_r50_fpn_2x_coco.py 8 --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT
8 GPUs of 2 images. Result: not run yet.
"""

_base_ = './retinanet_r50_fpn_1x_coco.py'

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[16, 22], gamma=0.1),
]

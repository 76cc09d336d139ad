"""What the detectors of one width share: the backbone of a pretraining, all its layers trained, batch norm synchronised."""

# A backbone of fixed width is made of plain Conv2d and BatchNorm2d, so that SyncBN can't be its norm_cfg: the
# Runner turns every BatchNorm2d of the model into SyncBN when several GPUs train, and none otherwise.
sync_bn = 'torch'
us3l_norm = dict(type='BN', requires_grad=True)
us3l_backbone = dict(
    type='us3l_mm.SlimmableResNet',
    frozen_stages=-1,
    norm_eval=False,
    norm_cfg=None,  # slimmable
    style='pytorch',
    width=1.0,  # this and what follows from it: set all by --width
    init_cfg=dict(type='Pretrained', checkpoint='work_dirs/r50_8xb256/epoch_100_calibrated.pth'),
)
# mmdet's C4 detectors are written for Caffe's weights and pixels.
us3l_pixels = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
us3l_shared_head = dict(_delete_=True, type='us3l_mm.SlimmableResLayer', depth=50, width=1.0)  # weights: the backbone's

"""mmdet's RetinaNet R50-FPN with US3L's backbone; batch norm in the FPN."""

_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'mmdet::retinanet/retinanet_tta.py', './det_resnet.py']

# No batch norm in the heads: their layers serve all levels, whose statistics differ.
model = dict(backbone=_base_.us3l_backbone, neck=dict(norm_cfg=_base_.us3l_norm))
retinanet_r18 = dict(  # what R18-FPN changes
    backbone=dict(depth=18, init_cfg=dict(checkpoint='work_dirs/r18_4xb128/epoch_100_calibrated.pth')),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

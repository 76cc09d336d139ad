"""mmdet's Faster R-CNN R50-FPN with US3L's backbone; batch norm in the FPN and in the box head, as in MoCo's."""

_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', './det_resnet.py']

model = dict(
    backbone=_base_.us3l_backbone,
    neck=dict(norm_cfg=_base_.us3l_norm),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=_base_.us3l_norm),
    ),
)

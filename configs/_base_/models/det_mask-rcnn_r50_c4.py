"""mmdet's Mask R-CNN R50-C4 with US3L's backbone, whose last stage is the shared head."""

_base_ = ['mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py', './det_resnet.py']

model = dict(
    data_preprocessor=_base_.us3l_pixels,
    backbone=_base_.us3l_backbone,
    roi_head=dict(shared_head=_base_.us3l_shared_head),
)

"""Faster R-CNN R50-FPN on a set of one's own in VOC's XML format, from US3L weights, at one width.

python tools/train.py configs/det/faster-rcnn_r50_fpn_voc-custom.py --width 0.5 --data-root FOLDER --backbone CALIBRATED_CHECKPOINT
1 GPU of 4 images; the learning rate follows the batch. Result: not run yet.
"""

_base_ = [
    '../_base_/models/det_faster-rcnn_r50_fpn.py',
    '../_base_/datasets/custom_voc.py',
    '../_base_/schedules/det_2x_custom.py',
]

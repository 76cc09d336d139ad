"""Linear evaluation of a ResNet-18 on labelled folders of your own at 4 widths: the paper's protocol of transfer.

python tools/linear_probe.py configs/linear/r18_1xb256-100e_folder.py CALIBRATED_CHECKPOINT --data-root FOLDER
1 GPU of 256 images; the learning rate follows the batch. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_folder.py'

model = dict(backbone=dict(depth=18))

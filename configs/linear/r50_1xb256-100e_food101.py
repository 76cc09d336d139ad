"""Transfer of a ResNet-50 to Food-101 at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_food101.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_flowers102.py'

model = dict(head=dict(num_classes=101))
train_dataloader = dict(dataset=dict(type='Food101', data_root='data/food101', split='train'))
val_dataloader = dict(dataset=dict(type='Food101', data_root='data/food101'))
test_dataloader = val_dataloader

"""Transfer of a ResNet-50 to Describable Textures (DTD) at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_dtd.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_flowers102.py'

model = dict(head=dict(num_classes=47))
train_dataloader = dict(dataset=dict(type='DTD', data_root='data/dtd'))
val_dataloader = dict(dataset=dict(type='DTD', data_root='data/dtd'))
test_dataloader = val_dataloader

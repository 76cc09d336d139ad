"""Transfer of a ResNet-50 to FGVC-Aircraft at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_aircraft.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_flowers102.py'

model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(type='FGVCAircraft', data_root='data/aircraft'))
val_dataloader = dict(dataset=dict(type='FGVCAircraft', data_root='data/aircraft'))
test_dataloader = val_dataloader

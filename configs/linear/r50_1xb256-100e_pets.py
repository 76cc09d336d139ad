"""Transfer of a ResNet-50 to Oxford-IIIT Pets at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_pets.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_flowers102.py'

model = dict(head=dict(num_classes=37))
train_dataloader = dict(dataset=dict(type='OxfordIIITPet', data_root='data/pets'))
val_dataloader = dict(dataset=dict(type='OxfordIIITPet', data_root='data/pets'))
test_dataloader = val_dataloader

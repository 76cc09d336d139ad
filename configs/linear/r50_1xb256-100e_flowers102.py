"""Transfer of a ResNet-50 to Oxford Flowers at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_flowers102.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe_r50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=102))
train_dataloader = dict(dataset=dict(type='Flowers102', data_root='data/flowers102', split='trainval'))
val_dataloader = dict(dataset=dict(type='Flowers102', data_root='data/flowers102', split='test'))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=256)

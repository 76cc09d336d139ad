"""Transfer of a ResNet-50 to Oxford-IIIT Pets at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_pets.py CALIBRATED_CHECKPOINT
Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe_r50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=37))
train_dataloader = dict(dataset=dict(type='OxfordIIITPet', data_root='data/pets', split='trainval'))
val_dataloader = dict(dataset=dict(type='OxfordIIITPet', data_root='data/pets', split='test'))
test_dataloader = val_dataloader
model_wrapper_cfg = None
auto_scale_lr = dict(base_batch_size=256)

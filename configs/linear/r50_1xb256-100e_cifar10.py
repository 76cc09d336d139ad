"""Transfer of a ResNet-50 to CIFAR-10, enlarged to 224 pixels, at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_cifar10.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe_r50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(to_rgb=False)  # CIFAR's images are RGB
model = dict(head=dict(num_classes=10))
cifar = dict(type='CIFAR10', download=False, data_root='data/cifar10')
train_dataloader = dict(dataset=dict(**cifar, split='train', pipeline=_base_.train_dataloader.dataset.pipeline[1:]))
val_dataloader = dict(dataset=dict(**cifar, split='test', pipeline=_base_.val_dataloader.dataset.pipeline[1:]))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=256)

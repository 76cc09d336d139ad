"""Transfer of a ResNet-50 to CIFAR-100, enlarged to 224 pixels, at 4 widths: linear evaluation, the paper's protocol.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_cifar100.py CALIBRATED_CHECKPOINT
1 GPU of 256 images. Result: not run yet.
"""

_base_ = './r50_1xb256-100e_cifar10.py'

model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
test_dataloader = val_dataloader

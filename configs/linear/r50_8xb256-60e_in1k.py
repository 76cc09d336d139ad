"""Linear evaluation of ResNet-50 on ImageNet at 4 widths: LARS, 60 epochs, 2,048 images an iteration.

python -m torch.distributed.run --nproc_per_node=8 tools/linear_probe.py \
    configs/linear/r50_8xb256-60e_in1k.py CALIBRATED_CHECKPOINT --launcher pytorch
Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_60e_lars.py',
    '../_base_/default_runtime.py',
]

model = dict(
    widths=[1.0, 0.75, 0.5, 0.25],
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(_delete_=True, type='us3l_mm.SlimmableResNet', depth=50),
    head=dict(num_classes=1000),
)
model_wrapper_cfg = None
auto_scale_lr = dict(base_batch_size=8 * 256)

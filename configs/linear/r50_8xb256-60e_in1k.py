"""Linear evaluation of ResNet-50 on ImageNet at 4 widths: LARS, 60 epochs, 2,048 images an iteration.

python -m torch.distributed.run --nproc_per_node=8 tools/linear_probe.py \
    configs/linear/r50_8xb256-60e_in1k.py CALIBRATED_CHECKPOINT --launcher pytorch
8 GPUs of 256 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe_r50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_60e_lars.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=8 * 256)

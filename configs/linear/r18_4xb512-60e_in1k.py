"""Linear evaluation of ResNet-18 on ImageNet at 4 widths.

python -m torch.distributed.run --nproc_per_node=4 tools/linear_probe.py \
    configs/linear/r18_4xb512-60e_in1k.py CALIBRATED_CHECKPOINT --launcher pytorch
4 GPUs of 512 images. Result: not run yet.
"""

_base_ = './r50_8xb256-60e_in1k.py'

model = dict(backbone=dict(depth=18))
train_dataloader = dict(batch_size=512)

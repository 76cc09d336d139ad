"""US3L ResNet-18 on CIFAR-100 as ``r18_4xb128-400e_cifar100.py``, for one GPU: views made there, bfloat16.

python tools/train.py configs/us3l/r18_1xb512-400e-fast_cifar100.py
Batch and learning rate are the same. Batch norm and negatives span 512 images, where 4 processes have 128 each. Widths
come in steps of 0.05, each with CUDA graphs. A CPU needs --cfg-options model.speed=eager.
12 epochs in place of 400 are in docs/benchmarks.md. 1 GPU of 512 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_nce.py',
    '../_base_/datasets/cifar100_us3l_fast.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
    '../_base_/monitor_cifar100.py',
]
model = dict(data_preprocessor=_base_.batched_views, speed='graphs', sampler=dict(width_step=0.05))
optim_wrapper = dict(type='us3l_mm.BFloat16OptimWrapper')
auto_scale_lr = dict(base_batch_size=512)

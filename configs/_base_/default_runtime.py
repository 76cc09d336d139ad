"""Hooks, logging and seeds that all pretraining and probing configs share."""

default_scope = 'mmpretrain'
runner_type = 'us3l_mm.ResumableRunner'
default_hooks = dict(
    runtime_info=dict(type='us3l_mm.DeferredRuntimeInfoHook'),  # no value is read from the GPU between two logs
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    cost=dict(type='us3l_mm.CostHook'),  # passes, MACs and time by width, in cost.json
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=600),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmengine.Visualizer', vis_backends=vis_backends)
log_processor = dict(window_size=10)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
model_wrapper_cfg = dict(type='us3l_mm.US3LDistributedDataParallel')

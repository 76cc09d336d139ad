"""mmdet's 2x schedule for a set of one's own: a short warm-up, and a learning rate that follows the batch."""

_base_ = ['mmdet::_base_/schedules/schedule_2x.py', 'mmdet::_base_/default_runtime.py']

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),  # small sets have few iterations
    _base_.param_scheduler[1],  # divides the rate as the base does
]
auto_scale_lr = dict(enable=True)

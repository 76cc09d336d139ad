"""What US3L shares between its base losses: MSE distillation, dynamic sampling, momentum targets, group regularisation."""

_base_ = './mlp_heads.py'

model = dict(
    type='us3l_mm.US3L',
    distill_loss=dict(type='CosineSimilarityLoss'),
    sampler=dict(width_range=(0.25, 1.0), num_widths=3, dynamic=True, num_stages=4, sandwich=True),
    base_target='momentum',
    sub_target='momentum',
    momentum=0.99,
    group_reg=dict(coefficient=0.5 * 1e-4, alpha=0.05, num_groups=8),
    update='per_width',
)

"""US-Net with SimCLR: none of the guidelines of US3L, distilled from the widest online network (as ablation case 14)."""

_base_ = './us3l_nce.py'

model = dict(
    distill_loss=dict(_delete_=True, type='us3l_mm.NTXentLoss', temperature=0.5),
    distill_predictor=None,
    base_target='online',
    sub_target='online',
    sampler=dict(dynamic=False, num_widths=4),  # four as in US-Net: the paper counts 4 T
    group_reg=None,
    update='accumulate',
)

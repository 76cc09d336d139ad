"""US-Net with MoCo v3 for ViT-Tiny: a momentum target for the widest network, which teaches the others in place."""

_base_ = './us3l_vit.py'

model = dict(
    # Twice MoCo v3's 2 T, because US3L takes the mean of the two views where MoCo v3 takes the sum.
    head=dict(loss=dict(loss_weight=2 * 2 * 0.2)),
    distill_loss=dict(_delete_=True, type='us3l_mm.NTXentLoss', temperature=0.2),
    distill_predictor=None,
    sub_target='online',
    sampler=dict(dynamic=False, num_widths=4),  # four as in US-Net: the paper counts 4 T
    update='accumulate',
)

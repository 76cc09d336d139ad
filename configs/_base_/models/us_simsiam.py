"""US-Net with SimSiam: US+BYOL without a teacher, one predictor for all widths (as ablation case 2)."""

_base_ = './us_byol.py'

model = dict(
    neck=dict(
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,  # the batch norm behind it takes any bias away
    ),
    base_target='online',
)

"""Sandwich rule x dynamic sampling, ResNet-18, without group regularisation.

python tools/run_table.py sandwich-dynamic

Published numbers that our copy of the table lacks are marked `.`. It prints as its last row that of
"group regularisation alone" in sampling-regularisation.py, not that of "dynamic sampling alone" (68.6 67.2 65.5 64.6
60.7 59.9), whose settings are the same; it is given as printed.
Result: not run yet.
"""

_base_ = './_bases.py'

title = 'US3L: sandwich rule and dynamic sampling'
published_from = dict(data='CIFAR-100', name='CVPR 2023', source='table of Cao et al., CVPR 2023 (talk)')
published_widths = [1.0, 0.8, 0.6, 0.5, 0.3, 0.25]

rows = {  # sandwich rule, dynamic sampling, published
    'neither': (False, False, '. . . . 59.4 .'),
    'dynamic': (False, True, '67.4 67.3 65.9 64.7 59.9 58.7'),
    'sandwich': (True, False, '. . . . . 59.6'),
    'both': (True, True, '68.6 67.3 65.5 64.4 60.9 60.1'),
}
cases = {
    case: dict(
        what=f'{"sandwich rule" if sandwich else "random widths"}, {"dynamic" if dynamic else "fixed"} sampling',
        base='r18',
        published=published,
        changes=dict(
            model=dict(sampler=dict(sandwich=sandwich, dynamic=dynamic), group_reg=None),
            optim_wrapper=dict(optimizer=dict(weight_decay=1e-4)),
        ),
    )
    for case, (sandwich, dynamic, published) in rows.items()
}

"""Dynamic sampling x group regularisation, in three backbones.

python tools/run_table.py sampling-regularisation
Result: not run yet.
"""

_base_ = './_bases.py'

title = 'US3L: dynamic sampling and group regularisation'
published_from = dict(data='CIFAR-100', name='CVPR 2023', source='table of Cao et al., CVPR 2023 (talk)')
published_widths = [1.0, 0.8, 0.6, 0.5, 0.3, 0.25]

rows = {  # base, dynamic sampling, group regularisation, published
    'r18': ('r18', False, False, '67.7 66.5 65.1 64.3 60.5 59.6'),
    'r18-dynamic': ('r18', True, False, '68.6 67.2 65.5 64.6 60.7 59.9'),
    'r18-group': ('r18', False, True, '68.6 67.3 65.5 64.4 60.9 60.1'),
    'r18-both': ('r18', True, True, '69.0 68.0 66.1 64.7 60.9 60.4'),
    'r50': ('r50', False, False, '71.0 70.6 70.0 69.1 67.2 66.8'),
    'r50-dynamic': ('r50', True, False, '71.8 71.1 70.2 69.3 67.3 67.2'),
    'r50-group': ('r50', False, True, '71.9 71.1 70.0 69.6 67.7 67.5'),
    'r50-both': ('r50', True, True, '72.6 71.5 70.6 70.2 67.7 67.4'),
    'mbv2': ('mbv2', False, False, '62.9 62.0 61.5 60.4 59.6 58.7'),
    'mbv2-dynamic': ('mbv2', True, False, '64.7 63.3 62.3 61.7 60.7 59.2'),
    'mbv2-group': ('mbv2', False, True, '64.0 63.2 62.1 61.4 60.2 59.0'),
    'mbv2-both': ('mbv2', True, True, '65.7 64.2 63.4 62.2 60.7 59.3'),
}
cases = {
    case: dict(
        what=f'{base}, {"dynamic" if dynamic else "fixed"} sampling, {"group" if group else "no group"} regularisation',
        base=base,
        published=published,
        changes=dict(
            model=dict(sampler=dict(dynamic=dynamic), **({} if group else dict(group_reg=None))),
            optim_wrapper=dict(optimizer=dict(weight_decay=0 if group else 1e-4)),
        ),
    )
    for case, (base, dynamic, group, published) in rows.items()
}

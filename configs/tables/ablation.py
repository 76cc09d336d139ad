"""The 17 ablation cases: base loss, distillation loss, auxiliary head, momentum teacher; ResNet-18.

python tools/run_table.py ablation

Dynamic sampling and group regularisation are off: case 13 is the first row of sampling-regularisation.py.
Result: not run yet on CIFAR-100; docs/tables.md has six cases on digits.
"""

_base_ = './_bases.py'

title = 'US3L ablation: base loss, distillation loss, auxiliary distillation head, momentum target'
published_from = dict(data='CIFAR-100', name='CVPR 2023', source='ablation table of Cao et al., CVPR 2023 (talk)')
published_widths = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]

mse = dict(name='MSE', base='r18_mse', weight_decay=5e-4, loss=dict(type='CosineSimilarityLoss'))
nce = dict(name='NCE', base='r18', weight_decay=1e-4, loss=dict(type='us3l_mm.NTXentLoss'))
none = dict(name='no', loss=None)
# Without a teacher the MSE base is SimSiam, whose projector ends in a batch norm without affine parameters.
simsiam = dict(neck=dict(with_last_bn=True, with_last_bn_affine=False, with_last_bias=False))
rows = {  # base loss, distillation loss, auxiliary head, target of the base network and of sub-networks, published
    '1': (mse, none, False, 'online', 'online', '- - - - - - - - -'),
    '2': (mse, mse, False, 'online', 'online', '57.5 57.4 57.3 57.0 56.3 55.4 54.5 53.1 52.4'),
    '3': (mse, mse, False, 'momentum', 'momentum', '64.7 64.7 64.5 64.3 63.9 62.6 61.3 59.7 59.3'),
    '4': (mse, mse, True, 'momentum', 'momentum', '65.4 65.0 64.8 64.5 63.8 62.7 61.1 59.8 58.9'),
    '5': (mse, nce, False, 'online', 'online', '62.3 62.3 62.3 62.2 61.8 60.6 58.9 57.6 57.2'),
    '6': (mse, nce, False, 'online', 'momentum', '63.7 63.8 63.7 63.6 63.1 62.0 60.6 59.3 58.2'),
    '7': (mse, nce, False, 'momentum', 'momentum', '65.0 65.0 65.1 65.0 64.5 62.7 61.3 59.8 59.2'),
    '8': (mse, nce, True, 'momentum', 'momentum', '65.5 65.5 65.6 65.0 64.6 63.2 61.6 60.2 59.7'),
    '9': (nce, none, False, 'online', 'online', '64.8 64.0 63.2 62.0 60.8 59.8 57.4 55.1 54.2'),
    '10': (nce, mse, False, 'online', 'online', '65.0 64.4 63.1 62.3 61.9 60.3 58.3 57.1 56.6'),
    '11': (nce, mse, False, 'online', 'momentum', '65.8 65.0 64.4 63.4 62.7 61.8 59.8 58.5 57.6'),
    '12': (nce, mse, False, 'momentum', 'momentum', '66.9 66.3 65.7 64.9 63.8 62.9 61.6 59.5 59.1'),
    '13': (nce, mse, True, 'momentum', 'momentum', '67.7 67.2 66.5 66.0 65.1 64.3 62.5 60.5 59.6'),
    '14': (nce, nce, False, 'online', 'online', '65.5 64.9 63.8 63.6 62.7 61.8 60.2 58.2 57.4'),
    '15': (nce, nce, False, 'online', 'momentum', '64.7 64.5 64.0 63.6 62.3 61.4 59.8 58.4 57.9'),
    '16': (nce, nce, False, 'momentum', 'momentum', '66.0 65.4 64.8 64.3 63.8 62.4 61.1 59.8 58.7'),
    '17': (nce, nce, True, 'momentum', 'momentum', '67.4 66.0 66.1 65.6 64.7 64.0 62.2 60.2 59.5'),
}
cases = {
    case: dict(
        what=f'{base["name"]} base, {distill["name"]} distillation, {"head" if head else "no head"}, '
        f'target {base_target} / {sub_target}',
        base=base['base'],
        published=published,
        changes=dict(
            model=dict(
                distill_loss=distill['loss'],
                base_target=base_target,
                sub_target=sub_target,
                sampler=dict(dynamic=False),
                group_reg=None,
                **({} if head else dict(distill_predictor=None)),
                **(simsiam if base is mse and base_target == 'online' else {}),
            ),
            optim_wrapper=dict(optimizer=dict(weight_decay=base['weight_decay'])),
        ),
    )
    for case, (base, distill, head, base_target, sub_target, published) in rows.items()
}

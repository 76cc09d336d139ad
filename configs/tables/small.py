"""Every method on digits in photographs, small enough for a laptop: three widths, three seeds.

python tools/run_table.py small --dataset digitphotos --seeds 0 1 2

One network is trained for each width of an individual method. SEED's teacher is BYOL's full-width network of the same seed.
Result: docs/comparison.md, commit 063c538, about 3 hours on 2 CPU cores that had other work.
"""

title = 'Individual and slimmable networks without labels, on digits in photographs'
rows = {  # what, config in configs/digits, one run for each width?
    'simclr': ('SimCLR, individual', 'simclr_r18', True),
    'byol': ('BYOL, individual', 'byol_r18', True),
    'seed': ('SEED, individual, taught by BYOL', 'seed_r18', True),
    'us-simclr': ('US+SimCLR', 'us-simclr_r18', False),
    'us-byol': ('US+BYOL', 'us-byol_r18', False),
    'us-simsiam': ('US+SimSiam', 'us-simsiam_r18', False),
    'us3l': ('US3L', 'r18', False),
}
bases = {
    name: {'digitphotos': f'configs/digits/{config}_1xb128-48e_digitphotos.py'} for name, (_, config, _) in rows.items()
}
probes = {'digitphotos': 'configs/digits/r18_1xb256-50e_digitphotos.py'}
protocols = {'digitphotos': 'fast'}
epochs = {}
probe_epochs = {}
cases = {
    name: dict(what=what, base=name, per_width=per_width, **(dict(teacher='byol') if name == 'seed' else {}))
    for name, (what, _, per_width) in rows.items()
}
cases['us3l-0.99'] = dict(
    what='US3L with the momentum of the paper', base='us3l', changes=dict(model=dict(momentum=0.99))
)

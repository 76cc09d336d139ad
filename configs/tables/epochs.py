"""US3L with 400 and with 800 epochs.

python tools/run_table.py epochs
Result: not run yet.
"""

_base_ = './_bases.py'

title = 'US3L: length of training'
published_from = dict(data='CIFAR-100', name='CVPR 2023', source='tables of Cao et al., CVPR 2023 (talk)')
published_widths = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]

cases = {
    'r18-400': dict(what='R-18', base='r18', published='69.0 . 68.0 . 66.1 64.7 . 60.9 60.4'),
    'r18-800': dict(
        what='R-18, twice as long', base='r18', longer=2, published='70.1 69.3 69.0 68.7 67.3 66.4 64.2 63.1 62.3'
    ),
    'r50-400': dict(what='R-50', base='r50', published='72.6 72.0 71.5 71.2 70.6 70.2 68.6 67.7 67.4'),
    'r50-800': dict(
        what='R-50, twice as long', base='r50', longer=2, published='73.0 72.5 71.9 71.6 71.1 70.8 69.1 68.0 67.6'
    ),
}

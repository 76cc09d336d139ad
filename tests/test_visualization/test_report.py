"""The report of runs: a page that needs nothing else, says what is there and how to get the rest, and fits a phone."""

import html
import html.parser
import json
import re
import shlex
import shutil
import subprocess

import pytest
from PIL import Image

from builders import us3l_lines, write_run
from us3l_mm.evaluation import Series, find_runs
from us3l_mm.visualization import write_report
from us3l_mm.visualization.report.next_steps import next_commands

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
WIDTHS = (390, 1280)  # pixels of a phone and of a laptop
DETECTOR = """
default_scope = 'mmdet'
model = dict(type='RetinaNet', backbone=dict(type='us3l_mm.SlimmableResNet', width=0.5))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
"""


class Page(html.parser.HTMLParser):
    """Checks that what opens is closed, and collects what a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.texts, self.pictures, self.styles = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)
        self.ids += [attributes['id']] if 'id' in attributes else []
        for name in ('src', 'href', 'xlink:href', 'data', 'action'):
            self.links += [(tag, attributes[name])] if name in attributes else []
        self.pictures += [attributes['alt']] if tag == 'img' else []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ('meta', 'img', 'br'):
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (self.open[-3:], tag)
        self.open.pop()

    def handle_data(self, data):
        if self.open[-1:] == ['style']:
            self.styles.append(data)
        elif data.strip():
            self.texts.append(data.strip())

    @property
    def text(self):
        return ' '.join(self.texts)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_everything(folder):
    """A folder with every part that a report can have."""
    monitored = [
        {
            f'monitor/{name}_w{width}': value / epoch
            for name in ('knn', 'linear', 'rankme', 'feature_std')
            for width, value in ((1, 9.0), (0.5, 8.0))
        }
        | {'step': epoch}
        for epoch in (1, 2, 3)
    ]
    run = write_run(folder / 'pretrain', [*us3l_lines(3), *monitored], saved=['epoch_3.pth'])
    best = dict(rankme=dict(epoch=2, value=61.25, width=1.0, checkpoint='best_rankme.pth'))
    write_json(run / 'monitor.json', dict(best=best, warnings=[dict(epoch=1, text='width 0.5 was low')]))
    line = dict(
        stage='warm-up <1>',
        width=1.0,
        role='student',
        forward=1000,
        backward=500,
        images=64000,
        macs=5e12,
        seconds=12.5,
    )
    cost = dict(
        rows=[line], iterations=500, seconds=123.0, passes_T=2.5, wall_clock_T=None, full_width_iteration_s=None
    )
    write_json(run / 'cost.json', cost)
    rows = [
        dict(dataset='dtd', status='done', size=[32, 32], widths={'1': 87.1, '0.5': 80.0}),
        dict(dataset='food101', status='missing: get it from its authors', size=[32, 32], widths={}),
    ]
    write_json(run / 'transfer.json', dict(checkpoint='c.pth', protocol='fast', rows=rows))
    (run / 'insight').mkdir()
    Image.new('RGB', (1200, 300), 'red').save(run / 'insight' / 'cka.png')
    said = dict(
        title='CKA & more', says='Layer 1 agrees best.', command='python tools/analysis_tools/cka.py X', data={}
    )
    write_json(run / 'insight' / 'cka.json', said)
    few = {'10': dict(mean=50.25, std=1.5, seeds=3)}
    widths = [
        dict(width=w, size=[16, 16], params=9, macs=int(1e6 * w), top1=90 * w, knn20=80.0, few=few) for w in (1.0, 0.5)
    ]
    write_json(
        folder / 'probe' / 'fast_probe.json',
        dict(config='x_digits.py', checkpoint='x/pretrain/epoch_3_calibrated.pth', widths=widths),
    )
    detector = [dict(loss=1.0, epoch=1, iter=10, step=10), {'coco/bbox_mAP': 0.286, 'coco/bbox_mAP_l': -1.0, 'step': 1}]
    drawn = (
        write_run(folder / 'detect', detector, config=DETECTOR, saved=['epoch_1.pth'])
        / '20261127_181709/vis_data/vis_image'
    )
    drawn.mkdir()
    Image.new('RGB', (128, 64), 'blue').save(drawn / 'val_img_1.png')
    rows = [dict(width=w, size=[64, 64], macs=1e9 * w, params=1, metrics={'coco/bbox_mAP': w / 4}) for w in (1.0, 0.5)]
    write_json(folder / 'widths' / 'table.json', rows)
    return folder


def report(folder, **options):
    out = folder / 'out' / 'report.html'
    figures = write_report(find_runs([folder]), out, **options)
    return Page(out.read_text(encoding='utf-8')), figures


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = write_everything(tmp_path_factory.mktemp('all'))
    published = [
        Series('R-18, published (CIFAR-100)', 'cifar100', [(1.0, 5e8, 69.0, None), (0.5, 2e8, 64.7, None)], True)
    ]
    page, figures = report(folder, title='A < B', summary='summary & more', published=published, command='python x')
    return page, figures


def test_page_is_whole_and_needs_nothing_else(whole):
    page, figures = whole
    source = (figures.parent / 'report.html').read_text(encoding='utf-8')
    assert len(page.pictures) == 2  # the insight and the boxes
    for tag, link in page.links:
        assert link.startswith({'img': 'data:image/png;base64,'}.get(tag, '#')), (tag, link[:80])
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for _, link in page.links if link[0] == '#'} <= set(page.ids)
    for foreign in ('http', 'url(http', '@import', '<script', 'expression('):
        assert foreign not in re.sub('base64,[^"]*', '', source)


def test_every_part_says_its_numbers(whole):
    page, figures = whole
    for text in (
        'A < B', 'summary & more', 'healthy', '3 of 3 epochs', '1,442', 'abc1234', 'Digits train', '2.11.0+cu130',
        '2 CPU cores', 'Best by rankme: epoch 2, 61.25 at width 1.0, best_rankme.pth.',
        'Warning at epoch 1: width 0.5 was low',
        '50.2 ± 1.5', 'R-18, published (CIFAR-100)', '69.0', '28.6', '87.1', 'missing: get it from its authors',
        '2.50 T by passes', 'warm-up <1>', '5,000', 'CKA & more', 'Layer 1 agrees best.',
        'Numbers at the points are widths',
    ):  # fmt: skip
        assert text in page.text, text
    assert '-100' not in page.text.replace('CIFAR-100', '')  # mmdet's -1 is no accuracy
    pngs = sorted(path.name for path in figures.iterdir())
    assert {'pretrain-loss-widest.png', 'pretrain-feature_std.png', 'pretrain-monitor-knn.png', 'widths-ap.png'} <= set(
        pngs
    )
    for name in pngs:
        with Image.open(figures / name) as image:
            assert image.format == 'PNG' and min(image.size) > 200


def test_next_commands_follow_from_what_is_missing(whole, tmp_path):
    page, _ = whole
    assert 'us3l calibrate' in page.text and 'us3l export' in page.text
    assert 'us3l probe' not in page.text  # that of epoch_3_calibrated.pth is there
    write_run(tmp_path / 'a run', us3l_lines(3), saved=['epoch_3.pth', 'epoch_3_calibrated.pth'])
    page, _ = report(tmp_path)
    assert 'us3l calibrate' not in page.text and 'us3l probe PROBE_CONFIG' in page.text
    for part in (
        'k-NN, rank and spread',
        'cost of the training',
        'transfer to other data',
        'insight',
        'accuracy of each width',
    ):
        assert part in page.text


def test_runs_that_did_not_end_well_are_gone_on_with_or_tried_again(tmp_path):
    write_run(tmp_path / 'interrupted', us3l_lines(2), saved=['epoch_2.pth'])
    write_run(tmp_path / 'collapsed', us3l_lines(3, std=0.01), saved=['epoch_3.pth'])
    write_run(tmp_path / 'diverged', us3l_lines(3, loss=float('nan')))
    collapsed, diverged, interrupted = (next_commands([run]).replace('\\\n', '') for run in find_runs([tmp_path]))
    folder = tmp_path / 'collapsed'
    lower = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.05']
    assert shlex.split(collapsed, comments=True) == [
        'us3l', 'train', f'{folder}/config.py', '--work-dir', f'{folder}_lower', *lower
    ]  # fmt: skip
    assert lower == shlex.split(diverged, comments=True)[-2:]
    folder = tmp_path / 'interrupted'
    assert shlex.split(interrupted, comments=True) == [
        'us3l', 'train', f'{folder}/config.py', '--work-dir', str(folder), '--resume'
    ]  # fmt: skip


@pytest.mark.parametrize(('lines', 'word'), [([], 'unfinished'), (us3l_lines(2, loss=float('nan')), 'diverged')])
def test_page_of_a_run_that_did_not_end_well(tmp_path, lines, word):
    page, _ = report(write_run(tmp_path / 'run', lines).parent)
    assert word in page.texts and 'What ran' in page.texts and 'export_width' not in page.text


def test_a_folder_of_results_alone(tmp_path):
    write_json(tmp_path / 'transfer.json', dict(rows=[dict(dataset='dtd', status='done', widths={'1': 87.1})]))
    page, _ = report(tmp_path)
    assert '87.1' in page.text and 'No training is here' in page.text


@pytest.mark.parametrize(('config', 'figures'), [('r18_cifar100.py', 1), ('r18_digits.py', 2)])
def test_published_numbers_join_those_on_the_same_data(tmp_path, config, figures):
    widths = [dict(width=1.0, size=[32, 32], params=9, macs=556_000_000, top1=68.0)]
    write_json(tmp_path / 'linear_probe.json', dict(config=config, checkpoint='x.pth', widths=widths))
    published = Series('R-18, published (CIFAR-100)', 'cifar100', [(1.0, 556_650_000, 69.0, None)], True)
    page, folder = report(tmp_path, published=[published])
    assert len(list(folder.iterdir())) == figures
    assert '69.0' in page.text and 'R-18, published (CIFAR-100)' in page.text


def test_many_trainings_share_their_figures(tmp_path):
    for i in range(13):
        write_run(tmp_path / f'r{i}', us3l_lines(3), saved=['epoch_3.pth'])
    page, figures = report(tmp_path)
    assert sorted(path.name for path in figures.iterdir()) == ['all-Loss.png', 'all-Spread-of-features.png']
    assert page.texts.count('13 curves') == 2 and '13 trainings that went well' in page.texts


MEASURE = """<script>
const bright = c => { const v = c.map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
  return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const under = node => { for (; node; node = node.parentElement) {
  const c = parse(getComputedStyle(node).backgroundColor);
  if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
let worst = [99, ''], wide = [];
document.querySelectorAll('details').forEach(one => { one.open = true; });
for (const node of document.querySelectorAll('body *:not(script, style)')) {
  const style = getComputedStyle(node), own = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (own) {
    const a = bright(parse(node.closest('svg') ? style.fill : style.color)), b = bright(under(node));
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < worst[0]) worst = [contrast, node.textContent.slice(0, 40)];
  }
  if (!node.closest('.scroll, pre, svg') && node.getBoundingClientRect().right > innerWidth + 1)
    wide.push(node.tagName);
}
const found = { scroll: document.documentElement.scrollWidth, worst, wide,
  dark: matchMedia('(prefers-color-scheme: dark)').matches };
parent.document.documentElement.dataset['w' + innerWidth] = JSON.stringify(found);
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f'needs a browser, one of {", ".join(BROWSERS)}: apt-get install chromium')
@pytest.mark.parametrize('dark', [False, True])
def test_page_fits_and_can_be_read(whole, tmp_path, dark):
    source = (whole[1].parent / 'report.html').read_text(encoding='utf-8')
    measured = html.escape(source.replace('</body>', MEASURE))
    frames = ''.join(f'<iframe style="width: {width}px; border: 0" srcdoc="{measured}"></iframe>' for width in WIDTHS)
    path = tmp_path / 'page.html'
    path.write_text(f'<!doctype html><meta charset="utf-8"><style>:root {{color-scheme: light dark}}</style>{frames}')
    options = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        f'--user-data-dir={tmp_path}/profile',
        '--window-size=2000,900',
    ]
    options += [f'--blink-settings=preferredColorScheme={0 if dark else 1}', '--dump-dom', path.as_uri()]
    done = subprocess.run([BROWSER, *options], capture_output=True, text=True, timeout=120)
    for width in WIDTHS:
        match = re.search(f'data-w{width}="([^"]*)"', done.stdout)
        assert match, done.stderr[-500:]
        found = json.loads(html.unescape(match[1]))
        assert found['dark'] == dark and found['scroll'] <= width and not found['wide']
        assert found['worst'][0] >= 4.5, found['worst']

"""The page that slides the width: its answers against loops, who gets none, and how a browser shows it."""

import http.client
import io
import json
import math
import shutil
import subprocess
import threading

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.models import ClsDataPreprocessor
from PIL import Image
from torch.utils.data import DataLoader, Subset

from builders import TinyResNet
from us3l_mm.datasets import Digits
from us3l_mm.datasets.image_bytes import decode_image
from us3l_mm.slim import calibrate_bn, use_width
from us3l_mm.visualization.play import Player, PlayServer
from us3l_mm.visualization.play.server import LARGEST

pytest.importorskip('sklearn')
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
PIPELINE = [dict(type='Resize', scale=16, interpolation='bicubic'), dict(type='mmpretrain.PackInputs')]
NEIGHBOURS, WIDTHS = 4, (1.0, 0.5)


def digits(split, per_class):
    dataset = Digits(split, per_class, pipeline=PIPELINE)
    return Subset(dataset, range(len(dataset)))


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = TinyResNet().eval()
    calibrate_bn(net, WIDTHS, [torch.randn(8, 3, 16, 16)])
    return net


@pytest.fixture(scope='module')
def player(net):
    preprocessor = ClsDataPreprocessor(mean=[80.0] * 3, std=[90.0] * 3)
    batches = lambda part: DataLoader(part, 16, collate_fn=default_collate)  # noqa: E731
    return Player(net, WIDTHS, preprocessor, digits('train', 4), digits('test', 2), batches, NEIGHBOURS)


@pytest.fixture(scope='module')
def server(player):
    with PlayServer() as server:
        server.player = player
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path, method='GET', body=None, headers=(), token=True):
    """Status and content of an answer."""
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=60)
    connection.request(method, (f'/{server.token}' if token else '') + path, body, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.getheader('Content-Type') == 'application/json' else content


def stored(player, index):
    """A sample as a file of an image."""
    out = io.BytesIO()
    Image.fromarray(player.images['samples'].dataset.get_data_info(index)['img']).save(out, 'png')
    return out.getvalue()


def feature(net, dataset, index, width):
    image = (dataset[index]['inputs'].float()[None] - 80) / 90
    with torch.no_grad(), use_width(net, width):
        found = net(image)[-1].mean(dim=(2, 3))[0].double().numpy()
    return found / np.linalg.norm(found)


@pytest.mark.parametrize('width', WIDTHS)
def test_answer_equals_that_of_loops(player, net, width):
    labelled, samples = player.images['labelled'], player.images['samples']
    found = player.sample(3, width)
    mine = feature(net, samples, 3, width)
    cosines = {i: float(mine @ feature(net, labelled, i, width)) for i in range(len(labelled))}
    nearest = sorted(cosines, key=cosines.get, reverse=True)[:NEIGHBOURS]
    assert [one['image'] for one in found['neighbours']] == nearest
    np.testing.assert_allclose(
        [one['similarity'] for one in found['neighbours']], [cosines[i] for i in nearest], atol=1e-5
    )
    votes = dict.fromkeys('0123456789', 0.0)
    for i in nearest:
        votes[str(labelled.dataset.get_data_info(i)['gt_label'])] += math.exp(cosines[i] / 0.07)
    assert found['name'] == max(votes, key=votes.get)
    assert found['truth'] == str(samples.dataset.get_data_info(3)['gt_label']) and found['ms'] > 0


def test_uploaded_image_goes_the_way_of_a_sample(player):
    sample, upload = player.sample(5, 0.5), player.upload(decode_image(stored(player, 5)), 0.5)
    assert upload['neighbours'] == sample['neighbours'] and 'truth' not in upload


@pytest.mark.parametrize('to_rgb', [False, True])
def test_colours_of_an_uploaded_image_are_those_of_the_data_set(player, monkeypatch, to_rgb):
    monkeypatch.setattr(player.preprocessor, 'to_rgb', to_rgb)
    monkeypatch.setattr(player, 'look', lambda packed, width: packed['inputs'].float().mean(dim=(1, 2)).tolist())
    red = np.full((20, 20, 3), [0, 0, 255], np.uint8)  # BGR
    assert player.upload(red, 1.0) == ([0, 0, 255] if to_rgb else [255, 0, 0])


def test_server_has_page_state_pictures_and_answers(server, player):
    status, page = ask(server, '/')
    assert status == 200 and b'<input id="width" type="range"' in page
    status, state = ask(server, '/state')
    assert [row['width'] for row in state['widths']] == [1.0, 0.5]
    assert state['widths'][0]['macs'] > state['widths'][1]['macs'] > 0 and (state['labelled'], state['samples']) == (
        40,
        20,
    )
    status, png = ask(server, '/image/labelled/7')
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(png)))).permute(2, 0, 1)
    assert torch.equal(pixels, player.images['labelled'][7]['inputs'])
    for found in ask(server, '/look?width=0.5&sample=2'), ask(server, '/look?width=0.5', 'POST', stored(player, 2)):
        assert found[0] == 200 and found[1]['neighbours'] == player.sample(2, 0.5)['neighbours']


@pytest.mark.parametrize(
    ('status', 'request_'),
    [
        (403, dict(path='/state', headers={'Host': 'evil.example'})),
        (403, dict(path='/state', token=False)),
        (403, dict(path='/', token=False)),
        (404, dict(path='/../../../etc/passwd')),
        (404, dict(path='/image/labelled/../../page.html')),
        (404, dict(path='/image/secrets/0')),
        (404, dict(path='/image/labelled/-1')),
        (404, dict(path='/image/labelled/40')),
        (404, dict(path='/look?width=0.5&sample=x')),
        (400, dict(path='/look?width=0.3&sample=1')),
        (404, dict(path='/state', method='POST', body=b'x')),
        (411, dict(path='/look?width=1', method='POST', headers={'Content-Length': '-1'})),
        (413, dict(path='/look?width=1', method='POST', body=bytes(LARGEST + 1))),
        (400, dict(path='/look?width=1', method='POST', body=b'no image')),
        (501, dict(path='/state', method='DELETE')),
    ],
)
def test_what_is_not_for_us_is_refused(server, status, request_):
    found, content = ask(server, **request_)
    assert found == status
    if status != 501:
        assert content['error']


def test_error_of_the_network_is_not_blamed_on_the_image(server, player, monkeypatch):
    monkeypatch.setattr(player, 'look', lambda packed, width: 1 / 0)
    status, content = ask(server, '/look?width=1', 'POST', stored(player, 1))
    assert status == 500 and content['error'].startswith('ZeroDivisionError')


@pytest.mark.parametrize('gone', [BrokenPipeError, ConnectionResetError])
def test_page_that_waits_no_more_is_no_error(server, monkeypatch, capfd, gone):
    def leave(*args):
        raise gone

    ended, end = threading.Event(), server.shutdown_request
    monkeypatch.setattr(server, 'shutdown_request', lambda request: (end(request), ended.set()))
    monkeypatch.setattr(server.RequestHandlerClass, 'send_response', leave)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(server, '/state')
    assert ended.wait(30)
    assert 'Error' not in capfd.readouterr().err


def test_port_and_neighbours_are_checked_before_the_features(server, run_tool, tmp_path, capsys):
    file = tmp_path / 'x.pth'
    file.touch()
    with pytest.raises(SystemExit, match=f'cannot serve at --port {server.server_port}: Address already in use; give'):
        run_tool('play', file, '--port', server.server_port)
    with pytest.raises(SystemExit):
        run_tool('play', file, '--neighbours', 9, '--num-images', 8)
    assert '--neighbours 9 are more than --num-images 8' in capsys.readouterr().err


def test_only_this_machine_is_served(server):
    assert server.server_address[0] == '127.0.0.1' and len(server.token) >= 20


def save(net, path, **meta):
    torch.save(
        {'meta': meta, 'state_dict': {f'backbone.{key}': value for key, value in net.state_dict().items()}}, path
    )
    return path


@pytest.mark.slow
def test_tool_prints_the_address_and_refuses_widths_without_statistics(run_tool, tmp_path, capsys, monkeypatch):
    from us3l_mm.models import SlimmableResNet_CIFAR

    def stop(server):
        assert [row['width'] for row in server.player.rows] == [1.0, 0.5]
        raise KeyboardInterrupt

    monkeypatch.setattr(PlayServer, 'serve_forever', stop)
    shape = dict(depth=18, stem_channels=16, base_channels=16)
    net, small = SlimmableResNet_CIFAR(**shape), ['--num-images', 40, '--samples', 10]
    told = dict(backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', **shape), pixels={}, input_size=[16, 16])
    new = save(net, tmp_path / 'new.pth', **told)
    with pytest.raises(
        SystemExit, match=r'not calibrated for 1 0.75 0.5 0.25 \(calibrated: none\). Run `us3l calibrate'
    ):
        run_tool('play', new, *small)
    calibrate_bn(net, WIDTHS, [torch.randn(8, 3, 16, 16)])
    ready = save(net, tmp_path / 'ready.pth', **told)
    with pytest.raises(SystemExit, match=r'not calibrated for 0.75 \(calibrated: 1 0.5\)'):
        run_tool('play', ready, *small, '--widths', 0.75, 0.5)
    with pytest.raises(SystemExit, match='trained with images of 32 pixels, the digits have 16'):
        run_tool('play', save(net, tmp_path / 'large.pth', **{**told, 'input_size': [32, 32]}), *small)
    with pytest.raises(SystemExit, match='does not tell its backbone.* Run `us3l calibrate CONFIG'):
        run_tool('play', save(net, tmp_path / 'silent.pth'), *small)
    run_tool('play', ready, *small)
    assert 'widths 1 0.5; Ctrl-C stops\nhttp://127.0.0.1:' in capsys.readouterr().out


def browse(server, folder, fragment):
    """What a browser makes of the page."""
    options = ['--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={folder}']
    command = [BROWSER, *options, '--virtual-time-budget=20000', '--dump-dom', f'{server.url}#{fragment}']
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f'needs a browser, one of {", ".join(BROWSERS)}: apt-get install chromium'
)


@pytest.mark.slow
@needs_browser
def test_browser_shows_what_the_network_answers(server, player, tmp_path):
    dom = browse(server, tmp_path, 'width=0.5&sample=3')
    found = player.sample(3, 0.5)
    assert f'<strong id="class">{found["name"]}</strong>' in dom and f'labelled: {found["truth"]}' in dom
    assert 'aria-valuetext="width 0.5"' in dom and ' ms</span>' in dom and '<p id="error" role="alert"></p>' in dom
    for one in found['neighbours']:
        assert f'src="image/labelled/{one["image"]}"' in dom


@pytest.mark.slow
@needs_browser
def test_browser_says_that_the_server_has_stopped(server, monkeypatch, tmp_path):
    respond = server.RequestHandlerClass.send_response

    def leave(handler, *args):
        if '/look' in handler.path:
            raise ConnectionResetError
        respond(handler, *args)

    monkeypatch.setattr(server.RequestHandlerClass, 'send_response', leave)
    dom = browse(server, tmp_path, 'width=0.5&sample=3')
    assert '<p id="error" role="alert">no answer: us3l play has stopped. Start it again' in dom
    assert '<strong id="class"></strong>' in dom and '<ul id="neighbours" class="pictures"></ul>' in dom

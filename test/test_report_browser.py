# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The page of `evaluate --html` in a real browser: it draws, turns, fits, and asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from browser import NAMES, Browser, find_browser
from PIL import Image
from report_results import EVIL, scene_report, write_lost_run, write_wall

from implicit_relocalizer.cli import main
from implicit_relocalizer.evaluation.report.page import render_page

PROBLEMS = 'document.documentElement.dataset.problems'
COLOURS = '''(() => { const c = document.querySelector('canvas');
  const image = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  const data = new Uint32Array(image.data.buffer);
  return [new Set(data).size, data.reduce((sum, value, i) => (sum + value * (i % 9973)) % 1e9, 0)];
})()'''


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(f'none of {", ".join(NAMES)} is installed')
    browser = Browser(program)
    yield browser
    browser.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pages')
    scene, run = folder / 'scene.html', folder / 'run.html'
    scene.write_text(render_page(scene_report()))
    bag = write_lost_run(folder / 'run')
    assert main(['evaluate', str(bag), '--html', str(run),
                 '--model', str(write_wall(folder / 'wall.pt'))]) == 0
    return {'scene': scene, 'run': run}


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('kind', ['scene', 'run'])
def test_everything_is_drawn(browser, pages, tmp_path, kind, scheme):
    browser.open(pages[kind], 1200, scheme=scheme)
    assert json.loads(browser.evaluate(PROBLEMS)) == []
    titles = browser.evaluate('[...document.querySelectorAll(".plot svg > title")]'
                              '.map((title) => title.textContent)')
    expected = {'The camera from above', 'position error of each image',
                'rotation error of each image', 'Share of the images over the position error',
                'Histogram of normalised position errors'}
    if kind == 'scene':
        expected |= {'Reliability diagram', 'Share of images accepted over the threshold',
                     f'Differences to older {EVIL} in cm'}
    assert expected <= set(titles)
    assert browser.evaluate('document.querySelectorAll("figure .photo svg circle").length') > 50
    assert browser.evaluate(COLOURS)[0] > 20, 'the view of the place is blank'
    browser.screenshot(tmp_path / 'page.png')
    with Image.open(tmp_path / 'page.png') as image:
        corner = np.array(image.convert('L'))[5, 5]
        assert (corner < 80) == (scheme == 'dark') and image.height > 2000
    assert 'b' not in browser.evaluate('[...document.querySelectorAll("main *")].map('
                                       '(element) => element.localName)')


def test_the_browser_asks_nobody(browser, pages):
    assert {url.split(':')[0] for url in browser.requests} <= {'file', 'data'}
    browser.open(pages['run'], 900)
    assert any(url.startswith('file:') for url in browser.requests)
    assert {url.split(':')[0] for url in browser.requests} <= {'file', 'data'}


@pytest.mark.parametrize('kind', ['scene', 'run'])
def test_it_fits_a_phone(browser, pages, kind):
    browser.open(pages[kind], 400)
    width, overflow = browser.evaluate(
        '[document.documentElement.scrollWidth, [...document.querySelectorAll("main *")].filter('
        '(e) => !e.closest(".scroll, svg") && e.getBoundingClientRect().right > 400.5).map('
        '(e) => e.outerHTML.slice(0, 80))]')
    assert (width, overflow) == (400, [])
    assert json.loads(browser.evaluate(PROBLEMS)) == []
    # Wider again, as a phone that was turned: the plots are drawn anew.
    browser.call('Emulation.setDeviceMetricsOverride', width=800, height=400, deviceScaleFactor=1,
                 mobile=False)
    browser.wait_for('document.querySelector("#time-plot svg").viewBox.baseVal.width > 600')


def test_pointing_at_a_mark_tells_of_its_image(browser, pages):
    browser.open(pages['run'], 1200)
    x, y = browser.evaluate('''(() => { const mark = document.querySelector('#above-plot svg');
      mark.scrollIntoView({behavior: 'instant', block: 'center'}); mark.focus();
      const box = mark.getBoundingClientRect(); return [box.left + 90, box.top + 60]; })()''')
    browser.mouse('mouseMoved', x, y)
    for _ in range(20):
        for kind in ('keyDown', 'keyUp'):
            browser.call('Input.dispatchKeyEvent', type=kind, key='ArrowLeft')
    for _ in range(5):
        for kind in ('keyDown', 'keyUp'):
            browser.call('Input.dispatchKeyEvent', type=kind, key='ArrowRight')
    card = browser.evaluate('document.getElementById("card").innerText')
    assert 'no answer' in card and f'confidence 0.1 is too low {EVIL}' in card
    assert '0.50 s' in card


def test_the_place_can_be_turned_and_zoomed(browser, pages):
    browser.open(pages['scene'], 1000)
    x, y = browser.evaluate('''(() => { const canvas = document.querySelector('canvas');
      canvas.scrollIntoView({behavior: 'instant', block: 'center'});
      const box = canvas.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2]; })()''')
    seen = [browser.evaluate(COLOURS)[1]]
    browser.mouse('mousePressed', x, y, button='left', buttons=1, clickCount=1)
    browser.mouse('mouseMoved', x + 120, y + 30, button='left', buttons=1)
    browser.mouse('mouseReleased', x + 120, y + 30, button='left', clickCount=1)
    browser.wait_for(f'{COLOURS}[1] !== {seen[-1]}')
    seen.append(browser.evaluate(COLOURS)[1])
    browser.mouse('mouseWheel', x, y, deltaX=0, deltaY=-400)
    browser.wait_for(f'{COLOURS}[1] !== {seen[-1]}')
    seen.append(browser.evaluate(COLOURS)[1])
    for kind in ('keyDown', 'keyUp'):
        browser.call('Input.dispatchKeyEvent', type=kind, key='ArrowLeft')
    browser.wait_for(f'{COLOURS}[1] !== {seen[-1]}')
    assert json.loads(browser.evaluate(PROBLEMS)) == []

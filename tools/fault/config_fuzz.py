"""Give every option of every module of ours values that it cannot have, and misspell the keys of configs.

python tools/fault/config_fuzz.py                    # all, some minutes
python tools/fault/config_fuzz.py --sample           # a fixed part, under a minute
python tools/fault/config_fuzz.py --only US3L --list # the cases of one module, each with its outcome

The options are those in the signatures of what our registries hold and of a few functions. option_domains.py says which
values an option may have, apart from our code; a new option without a domain is an error here. Outcomes of a case:

clear    refused, and the error names the option
right    accepted, the value is in the domain, and the module then works
silent   accepted, though the value is not in the domain
unnamed  refused by an error that does not name the option
hang     neither accepted nor refused within 20 seconds
wrong    in the domain, but refused, or the module does not work or computes what is not finite

The exit status is 1 if there is a case of the last four.
"""

import argparse
import copy
import inspect
import keyword
import random
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from option_domains import DOMAINS, MORE, VALUES
from option_targets import Target, options, targets
from torch import distributed

from us3l_mm.config import read_config
from us3l_mm.utils.arguments import count_from
from us3l_mm.utils.tables import markdown_table

SECONDS = 20
OUTCOMES = ('clear', 'right', 'silent', 'unnamed', 'hang', 'wrong')


@dataclass
class Case:
    """A value for an option."""

    kind: str
    option: str
    value: Any
    legal: bool
    build: Callable[[], Any]
    use: Callable[[Any], Any] = lambda built: 0


def build(target: Target, **given: Any) -> Any:
    """Build a module, with copies of its options: some constructors change theirs."""
    with DefaultScope.overwrite_default_scope(target.scope):
        return target.build(**copy.deepcopy({**target.base, **given}))


def option_cases() -> Iterator[Case]:
    unknown = []
    for kind, target in targets().items():
        target.use(build(target))  # must work
        for option in options(target):
            domain = DOMAINS.get(f'{kind}.{option}') or DOMAINS.get(option)
            if option == 'width' and 'Slimmable' in kind and kind != 'SlimmableResLayer':
                domain = DOMAINS['backbone width']
            if domain is None:
                unknown.append(f'{kind}.{option}')
                continue
            for value in (*VALUES, *MORE.get(option, ())):
                yield Case(kind, option, value, domain(value), partial(build, target, **{option: value}), target.use)
    if unknown:
        raise SystemExit(f'say in option_domains.py which values these options may have: {", ".join(unknown)}')


def misspellings(key: str) -> Iterator[str]:
    for i in range(len(key)):
        yield key[:i] + key[i + 1 :]
        yield key[:i] + key[i] + key[i:]
        yield key[:i] + key[i + 1 : i + 2] + key[i] + key[i + 2 :]
    yield f'{key}s'
    yield key.replace('_', '')


def key_cases(folder: Path, each: int) -> Iterator[Case]:
    """Configs with one misspelt top-level key; variables of any other name are fine."""
    ours = {'classes', 'data_root', 'model_wrapper_cfg', 'overwrite', 'runner_type', 'sync_bn', 'width'}
    known = ours | set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    allowed = known | {'widths'}  # a variable of configs/linear
    draw = random.Random(0)
    for key in sorted(known):
        wrong = sorted({word for word in misspellings(key) if word not in allowed and not keyword.iskeyword(word)})
        for word in draw.sample(wrong, min(each, len(wrong))):
            yield Case('keys of a config', word, key, False, lambda word=word: read(folder, word))
    for word in ('view', 'net', 'max_epochs', 'my_model_options', 'train_pipeline', 'lr', '_modle', 'val_evaluator_2'):
        yield Case('keys of a config', word, 1, True, lambda word=word: read(folder, word))


def read(folder: Path, key: str) -> Any:
    path = folder / 'config.py'
    path.write_text(f"model = dict(type='US3L')\n{key} = 1\n")
    return read_config(str(path))


class Hang(BaseException):
    """A case took too long."""


def ring(*_: Any) -> None:
    raise Hang


def attempt(case: Case) -> tuple[str, str]:
    """Outcome of a case, and the error if there was one."""
    torch.manual_seed(0)
    signal.alarm(SECONDS)
    try:
        built = case.build()
        if not case.legal:
            return 'silent', ''
        return ('right', '') if finite(case.use(built)) else ('wrong', 'the result is not finite')
    except Hang:
        return 'hang', ''
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        return ('wrong' if case.legal else 'clear' if named(case, str(error)) else 'unnamed'), text
    finally:
        signal.alarm(0)


def named(case: Case, message: str) -> bool:
    """Whether a message names the option; or, where a dict was given, an entry of it or its type."""
    names = [case.option]
    if isinstance(case.value, dict):
        names += [*case.value, *(value for value in case.value.values() if isinstance(value, str))]
    if case.kind == 'keys of a config':
        return all(repr(name) in message for name in (case.option, case.value))
    patterns = ["'type'" if name == 'type' else rf'\b{re.escape(name)}\b' for name in names]
    return any(re.search(pattern, message, re.IGNORECASE) for pattern in patterns)


def finite(result: Any) -> bool:
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return all(finite(item) for item in result)
    return bool(torch.isfinite(torch.as_tensor(result)).all())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=count_from(1), help='cases, drawn from all; all if not given')
    parser.add_argument('--sample', action='store_true', help='a fixed part: as --count 1000')
    parser.add_argument('--seed', type=count_from(0), default=0, help='seed of the choice (default: %(default)s)')
    parser.add_argument('--only', default='', metavar='TEXT', help='cases whose MODULE.OPTION has this text')
    parser.add_argument('--list', action='store_true', help='print each case')
    return parser.parse_args()


def run(cases: list[Case], every: bool) -> list[tuple[Case, str, str]]:
    """Try all cases; one line for each module."""
    results, last = [], None
    for number, case in enumerate(cases, start=1):
        if case.kind != last and not every:
            print(f'{number - 1:5d} of {len(cases)} tried, now {case.kind}', flush=True)
        last = case.kind
        outcome, error = attempt(case)
        results.append((case, outcome, error))
        if every:
            print(f'{outcome}: {case.kind}.{case.option} = {case.value!r:.80}: {error:.200}', flush=True)
    return results


def report(results: list[tuple[Case, str, str]]) -> bool:
    """Print the table and each fault; return whether there is one."""
    counts = Counter((case.kind, outcome) for case, outcome, _ in results)
    rows = []
    for kind in dict.fromkeys(case.kind for case, _, _ in results):
        numbers = [counts[kind, outcome] for outcome in OUTCOMES]
        rows.append([kind, sum(numbers), *numbers])
    rows.append(['all', *(sum(column) for column in list(zip(*rows))[1:])])
    print('\n' + markdown_table(['options of', 'tried', *OUTCOMES], rows))
    faults = [result for result in results if result[1] not in ('clear', 'right')]
    for case, outcome, error in faults:
        print(f'{outcome}: {case.kind}.{case.option} = {case.value!r:.80}: {error:.300}')
    return bool(faults)


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    signal.signal(signal.SIGALRM, ring)
    torch.set_num_threads(1)
    MMLogger.get_instance('config_fuzz', log_level='ERROR')
    DefaultScope.get_instance('config_fuzz', scope_name='mmpretrain')
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=0, world_size=1)
        try:
            cases = [*option_cases(), *key_cases(Path(folder), each=8)]
            cases = [case for case in cases if args.only in f'{case.kind}.{case.option}']
            count = 1000 if args.sample else args.count
            if count is not None and count < len(cases):
                chosen = sorted(random.Random(args.seed).sample(range(len(cases)), count))
                cases = [cases[index] for index in chosen]
            failed = report(run(cases, args.list))
        finally:
            distributed.destroy_process_group()
    if failed:
        sys.exit(1)


if __name__ == '__main__':
    main()

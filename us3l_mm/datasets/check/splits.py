"""Compare the splits of a data set with each other."""

from us3l_mm.utils.nearest import with_nearest

from .files import alike
from .report import Book, Split

_GREY_APART = 0.5  # shares of grey images that differ by more belong to different kinds of data


def compare_classes(splits: list[Split], book: Book) -> None:
    """Compare the classes of all splits with those of the first, by name, and list classes without images."""
    labelled = [split for split in splits if split.count]
    for split in labelled:
        first = labelled[0].classes
        between = f'{labelled[0].name}, {split.name}'
        if split.classes is not None and first is not None and split.classes != first:
            unknown = [name for name in split.classes if name not in first]
            fix = f'Give both the same `classes`, in one order{f": {with_nearest(unknown, first)}" if unknown else ""}'
            for number, name in enumerate(split.classes):
                other = first[number] if number < len(first) else 'none'
                if name != other:
                    detail = f'label {number}, which is {other} in {labelled[0].name}'
                    book.add('error', between, 'classes with other labels', fix, name, detail)
        for name in dict.fromkeys([*(first or ()), *(split.classes or ())]) if split.complete else ():
            if not split.count.get(name):
                fix = 'Nothing is learnt or measured of them there'
                book.add('warning', split.name, 'classes without an image or a box', fix, name)


def compare_grey(splits: list[Split], book: Book) -> None:
    """Warn if one split is grey and another one is not."""
    shares = {split.name: split.grey / len(split.sizes) for split in splits if split.sizes}
    if shares and max(shares.values()) - min(shares.values()) > _GREY_APART:
        for name, share in shares.items():
            fix = 'A net that learns from colours does not know grey images: take both from one source'
            book.add('warning', ', '.join(shares), 'splits, some grey, some in colour', fix, name, f'{share:.0%} grey')


def find_copies(splits: list[Split], book: Book) -> None:
    """Find images that occur twice, in one split or in two."""
    owners: dict[str, list[str]] = {}
    for split in splits:
        for path in split.paths:
            owners.setdefault(path, []).append(split.name)
    sampled = {path for split in splits for path in split.sampled}
    leak = 'What is trained on cannot be tested on: remove them from one of the splits'
    for path, names in owners.items():
        if len(names) > 1:
            book.add('warning', ', '.join(names), 'images in both splits', leak, path)
    for group in alike(owners, sampled):
        for path in group[1:]:
            names = dict.fromkeys([*owners[group[0]], *owners[path]])
            if len(names) > 1:
                what, fix = 'images with the same bytes in both splits', leak
            else:
                what, fix = (
                    'images with the same bytes as another',
                    'They count twice: remove them if that is not meant',
                )
            book.add('warning', ', '.join(names), what, fix, path, f'the same as {group[0]}')

"""Mutated files through every loader, in the worker: no crash, no hang, no unnamed failure."""

from __future__ import annotations

import io
import random
import re
import unicodedata
import zipfile
from collections import Counter

import pytest

from forumqa.loaders.isolation import IsolatedLoader
from forumqa.schema import LoadFailed
from tests.article import BLOCKS, DATA, hwp, paragraph
from tests.test_loaders import FILES

SEEDS = {
    **FILES,
    "password.pdf": (DATA / "password.pdf").read_bytes(),
    "records.hwp": hwp(*(paragraph(text) for _, text in BLOCKS), flags=0, deflate=False),
}
# What the worker says where a loader failed otherwise than by refusing the file.
UNNAMED = re.compile(r"took over|crashed|is damaged \(\w+\)")


def mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8, 40])):
        at, size = chance.randrange(len(out) + 1), chance.choice([1, 2, 4, 16, 300])
        step = chance.randrange(6)
        if step == 0:
            out[at : at + 1] = bytes([chance.randrange(256)])
        elif step == 1:
            del out[at : at + size]
        elif step == 2:
            other = chance.randrange(len(out) + 1)
            out[at:at] = out[other : other + size]
        elif step == 3:
            out[at : at + size] = bytes([chance.choice([0, 255])]) * size
        elif step == 4:
            out[at : at + 4] = chance.choice(
                [b"\xff\xff\xff\x7f", b"\xff" * 4, b"\1\0\0\0", b"<<<<"]
            )
        elif chance.random() < 0.2:
            del out[at:]
    return bytes(out)


def mutated_inside(data: bytes, chance: random.Random) -> bytes:
    """Mutate members of a zip archive, so that their checksums hold."""
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith((".xml", ".hpf")) and chance.random() < 0.5:
                content = mutated(content, chance)
            target.writestr(name, content)
    return out.getvalue()


def run(count: int, seed: int) -> Counter[tuple[str, str]]:
    chance = random.Random(seed)
    loader = IsolatedLoader(seconds=20, megabytes=1024)
    seen: Counter[tuple[str, str]] = Counter()
    for i in range(count):
        name = chance.choice(sorted(SEEDS))
        inside = name.endswith(("docx", "hwpx")) and chance.random() < 0.7
        data = (mutated_inside if inside else mutated)(SEEDS[name], chance)
        kind = name.rpartition(".")[2]
        try:
            document = loader.load(data, name)
        except LoadFailed as failed:
            assert not UNNAMED.search(str(failed)), f"{name}, {i} of seed {seed}: {failed}"
            seen[kind, "refused"] += 1
            continue
        seen[kind, "read"] += 1
        assert unicodedata.is_normalized("NFC", document.text)
        document.text.encode()
        assert list(document.pages) == sorted(document.pages)
        for offset in (*document.pages, *(section.start for section in document.sections)):
            assert 0 <= offset <= len(document.text)
    loader.close()
    return seen


def test_mutated_files() -> None:
    seen = run(150, 20)
    kinds = {name.rpartition(".")[2] for name in SEEDS}
    assert {kind for kind, _ in seen} == kinds, "some format was not tried"
    assert len({outcome for _, outcome in seen}) == 2, "all were read, or all refused"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_many_mutated_files(seed: int) -> None:
    seen = run(2500, seed)
    assert sum(seen.values()) == 2500

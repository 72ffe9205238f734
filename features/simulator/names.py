"""Invented names and phones; no number is in a range that can be dialled."""

from __future__ import annotations

import numpy as np

from features.simulator.plan import Language

SURNAMES = (
    "王 Wang,李 Li,张 Zhang,刘 Liu,陈 Chen,杨 Yang,黄 Huang,赵 Zhao,吴 Wu,周 Zhou,徐 Xu,孙 Sun,马 Ma,朱 Zhu,"
    "胡 Hu,郭 Guo,何 He,林 Lin,高 Gao,罗 Luo,郑 Zheng,梁 Liang,谢 Xie,宋 Song,唐 Tang,许 Xu,韩 Han,邓 Deng"
)
GIVEN = (
    "芳 fang,静 jing,敏 min,丽 li,娟 juan,艳 yan,秀 xiu,霞 xia,雪 xue,婷 ting,玉 yu,慧 hui,欣 xin,怡 yi,"
    "伟 wei,强 qiang,磊 lei,军 jun,洋 yang,勇 yong,杰 jie,涛 tao,明 ming,超 chao,刚 gang,平 ping,辉 hui,鹏 peng,"
    "宇 yu,晨 chen,浩 hao,子 zi,涵 han,泽 ze,雨 yu,思 si,嘉 jia,文 wen,博 bo,佳 jia,梓 zi,安 an"
)


def draw_names(surname_of: np.ndarray, rng: np.random.Generator, language: Language) -> list[str]:
    """Names for people, one per entry of `surname_of` (numbers of shared surnames).

    Parameters
    ----------
    surname_of : ndarray of int, shape (people,)
        People with the same number get the same surname.
    rng : Generator
        Source of randomness; draws do not depend on `language`.
    language : {"en", "zh"}
        Pinyin or characters.
    """
    surnames = [entry.split() for entry in SURNAMES.split(",")]
    given = [entry.split() for entry in GIVEN.split(",")]
    # The commonest surnames come first; their shares fall roughly as 1 / (rank + 3).
    shares = 1 / (np.arange(len(surnames)) + 3.0)
    families = rng.choice(len(surnames), size=int(surname_of.max()) + 1, p=shares / shares.sum())
    first = rng.integers(len(given), size=len(surname_of))
    second = np.where(rng.random(len(surname_of)) < 0.7, rng.integers(len(given), size=len(surname_of)), -1)
    people = zip(families[surname_of], first, second, strict=True)
    return [_shown(surnames[family], given[a], given[b] if b >= 0 else None, language) for family, a, b in people]


def draw_phones(people: int, rng: np.random.Generator) -> list[str]:
    """Different invented numbers; no operator uses the prefix 000."""
    digits = rng.permutation(max(people * 7, 1000))[:people] + 10_000_000
    return [f"000-{number // 10_000:04d}-{number % 10_000:04d}" for number in digits.tolist()]


def _shown(family: list[str], first: list[str], second: list[str] | None, language: Language) -> str:
    script = 1 if language == "en" else 0
    given = first[script] + (second[script] if second else "")
    return f"{family[1]} {given.capitalize()}" if language == "en" else family[0] + given

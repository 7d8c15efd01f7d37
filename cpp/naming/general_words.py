"""General words: which words of a vocabulary are birds, vehicles or furniture, by WordNet's hierarchy.

Votes for several kinds of birds make a cluster of birds, even if no kind is sure. The general words are a fixed list of
plain nouns, so that no cluster is called "placental" or "instrumentality". Knows no images.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming import wordnet

# the synset of each word, by its number in WordNet 3.0
SYNSETS = {
    # animals
    "animal": 15388, "mammal": 1861778, "dog": 2084071, "cat": 2121620, "feline": 2120997, "bear": 2131653,
    "rodent": 2329401, "primate": 2469914, "monkey": 2484322, "horse": 2374451, "deer": 2430045, "antelope": 2419796,
    "bird": 1503061, "fish": 2512053, "shark": 1482330, "reptile": 1661091, "turtle": 1662784, "snake": 1726692,
    "lizard": 1674464, "dinosaur": 1699831, "amphibian": 1627424, "insect": 2159955, "butterfly": 2274259,
    "beetle": 2164464, "arachnid": 1769347, "spider": 1772222, "crustacean": 1974773, "mollusk": 1940736,
    # plants and food
    "plant": 17222, "tree": 13104059, "flower": 11669921, "fungus": 12992868, "food": 7555863, "fruit": 13134947,
    "vegetable": 7707451, "bread": 7679356, "dessert": 7609840, "dish": 7557434, "drink": 7881800,
    # vehicles
    "vehicle": 4524313, "aircraft": 2686568, "airplane": 2691156, "watercraft": 4530566, "ship": 4194289,
    "boat": 2858304, "train": 4468005, "car": 2958343, "truck": 4490091, "bus": 2924116, "bicycle": 2834778,
    "motorcycle": 3790512,
    # places
    "building": 2913152, "church": 3028079, "shop": 4202417, "tower": 4460130, "bridge": 2898711, "room": 4105893,
    "road": 4096066, "body of water": 9225146, "mountain": 9359803,
    # things in a house
    "furniture": 3405725, "chair": 3001627, "table": 4379243, "bed": 2818832, "cabinet": 2933112, "lamp": 3636248,
    "rug": 4118021, "container": 3094503, "bottle": 2876657, "cup": 3147509, "bag": 2773037, "box": 2883344,
    "kitchen utensil": 3621049, "cookware": 3101986, "tableware": 4381994, "home appliance": 3528263, "toy": 3964744,
    # clothes
    "clothing": 3051540, "garment": 3419014, "footwear": 3381126, "headgear": 3502509, "hat": 3497657,
    "jewelry": 3597469, "fabric": 3309808,
    # tools and machines
    "tool": 4451818, "fastener": 3323703, "weapon": 4565375, "gun": 3467984, "knife": 3623556, "machine": 3699975,
    "computer": 3082979, "electronic equipment": 3278248, "measuring instrument": 3733925, "timepiece": 4437953,
    "musical instrument": 3800933, "stringed instrument": 4338517, "wind instrument": 4586932,
    "brass instrument": 2891788, "percussion instrument": 3915437, "keyboard instrument": 3614532,
    "sports equipment": 4285146, "ball": 2778669, "sign": 4217882,
}  # fmt: skip
# synsets that WordNet puts below a general word, and that no person would call so: a car is no container
_EXCEPTIONS = {"container": SYNSETS["vehicle"]}


class GeneralWords(NamedTuple):
    """General words, the narrowest first, and which words of a vocabulary they cover, bool `[n_words, n_general]`.

    A word is covered by a general word if one of its usual senses is that word or below it.
    """

    words: tuple[str, ...]
    covers: NDArray[np.bool_]

    @classmethod
    def of(cls, vocabulary: Sequence[str]) -> GeneralWords:
        """The general words that cover some words of a vocabulary."""
        covers = np.array([_covered(word) for word in vocabulary], bool).reshape(len(vocabulary), len(SYNSETS))
        size, depth = covers.sum(0), [len(wordnet.ancestors(synset)) for synset in SYNSETS.values()]
        kept = [i for i in np.lexsort((np.negative(depth), size)) if size[i]]
        return cls(tuple(np.array(list(SYNSETS))[kept].tolist()), covers[:, kept])


@functools.cache  # every layer of a run asks about the same words
def _covered(word: str) -> tuple[bool, ...]:
    """For every general word, whether it covers this word."""
    senses = [wordnet.ancestors(sense) for sense in wordnet.usual(word)]
    return tuple(
        any(synset in above and _EXCEPTIONS.get(general) not in above for above in senses)
        for general, synset in SYNSETS.items()
    )

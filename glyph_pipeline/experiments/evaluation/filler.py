"""Filler: English sentences without end, by lot, for texts in which something is hidden. Knows nothing of what is hidden in them."""

from __future__ import annotations

import random
from collections.abc import Iterator


def split_at_bars(text: str) -> tuple[str, ...]:
    """The words between bars."""
    return tuple(text.split("|"))


_DRAWN: dict[str, tuple[str, ...]] = {
    "person": split_at_bars(
        "Anselm Birk|Berta Quill|Cornelius Hake|Dorothea Flint|Edmund Rask|Felicia Thorn|Gregor Lund|Hedwig Carrow|Isidor Penn|Johanna Stree"
        "|Konrad Ebb|Leonie Marsh|Magnus Pike|Nora Teasel|Oskar Dunne|Paula Wren|Quentin Sorrel|Rosalind Ash|Silas Gorse|Tabea Holm"
        "|Ulrich Fenn|Valeria Moss|Wendel Crane|Yvonne Tarn"
    ),
    "role": split_at_bars(
        "the baker|the schoolmaster|the ferryman|the widow next door|the carpenter|the postmistress|the doctor|the clerk"
    ),
    "place": split_at_bars(
        "Ardmoyle|Birkstead|Calloway Ford|Dunmere|Eastmarsh|Fallow Green|Greyhithe|Hollin Bridge|Inverlow|Kettering Cross|Longsands|Mirefield"
        "|Netherby|Oakhampton|Pellworth|Quarrington|Ravensea|Saltcombe|Thornley|Upper Wick|Westerholt|Yarrow Head"
    ),
    "building": split_at_bars(
        "mill|chapel|schoolhouse|boathouse|town hall|bakery|smithy|granary|inn|observatory|library|tannery|lighthouse|station|orchard house"
    ),
    "part": split_at_bars("roof|cellar|north wall|staircase|chimney|floor|gate|east window|porch|well|attic|fence"),
    "stuff": split_at_bars("oak|slate|brick|limestone|reed|clay|larch|granite|tin|old timber|river sand|whitewash"),
    "goods": split_at_bars("barley|wool|salted herring|apples|candles|rope|turnips|honey|paper|linen|cheese|seed potatoes|coal|hides"),
    "season": ("spring", "summer", "autumn", "winter"),
    "month": split_at_bars("January|February|March|April|May|June|July|August|September|October|November|December"),
    "day": split_at_bars("Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"),
    "year": tuple(str(year) for year in range(1861, 1959)),
    "few": split_at_bars("two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|sixteen|twenty"),
    "weather": split_at_bars("fog|steady rain|a hard frost|a dry wind|heavy snow|mild weather|thunder|bright cold|a long thaw|drizzle"),
    "mood": split_at_bars("calm|tired|cheerful|doubtful|patient|restless|proud|silent|amused|wary|content|curious"),
    "beast": split_at_bars("horses|geese|goats|cattle|bees|sheep|hens|swallows|mules|dogs"),
    "thing": split_at_bars("cart|stove|barometer|kettle|ladder|bell|wheelbarrow|violin|ledger|sextant|loom|pump|rowing boat|coat|map"),
    "state": split_at_bars("worn|almost new|broken|borrowed|too heavy to lift|painted green|much admired|nearly forgotten|cheap|well made"),
}

# Plain past tense; what they say has no meaning for any question that is asked.
_SENTENCES = (
    "In the {season} of {year} the {part} of the {building} at {place} was mended with {stuff}.",
    "{person} came to {place} on a {day} in {month} and stayed for {few} weeks.",
    "Most of the {goods} went down the river to {place} before the {season} was over.",
    "Nobody in {place} could say why the {building} had been closed since {year}.",
    "{person} sold the {thing} to {person}, who found it {state}.",
    "After {few} days of {weather} the road between {place} and {place} was open again.",
    "The {beast} were kept behind the {building}, where the grass grew late.",
    "{person} was {mood} that evening and spoke only of the {part} and of the price of {goods}.",
    "By {year} the town had {few} shops, a {building} and a poor road to {place}.",
    "Every {day} {person} walked to the {building} and back, whatever the weather was.",
    "The {thing} in the {building} was {state}, and it had cost {few} crowns.",
    "With {weather} from the west, the men at {place} left their {goods} under a roof of {stuff}.",
    "{person} wrote home in {month} that the {season} had been kind and that the {beast} were well.",
    "It took {few} people to carry the {thing} from {place} to the {building}.",
    "A letter of {month} {year} tells that {role} refused to pay for the {part}.",
    "When the {weather} ended, {person} counted the {beast} and was {mood}.",
    "The council met in the {building} and talked about {goods} until it was dark.",
    "{person} and {person} shared a {thing} for {few} years without a quarrel.",
    "Whoever passed through {place} in those days remembered the smell of {goods}.",
    "There was {stuff} enough for the {part}, but none was left for the {building}.",
    "Toward the end of {month} {role} set out for {place} with {few} {beast}.",
    "In {year} a storm took the {part} off the {building}, and {person} slept under the {thing}.",
    "Children from {place} carried {goods} to the market and came back {mood}.",
    "The older houses at {place} are of {stuff}, the younger ones of {stuff}.",
    "{person} learned to repair a {thing} from {role}, and later taught {person}.",
    "For {few} nights the {beast} would not go near the {building}.",
    "The harvest of {year} was small, so {goods} were dear all through the {season}.",
    "On the {day} after the fair, {person} swept the {building} and locked the {part}.",
    "{person} had never seen {weather} like that, and neither had {role}.",
    "Since the {thing} was {state}, they waited at {place} until {month}.",
    "The way from {place} leads past a {building} that was once full of {goods}.",
    "It was said that {person} kept {few} {beast} and a {thing} in the cellar.",
)
_SHORTEST, _LONGEST = 4, 8  # sentences of a paragraph


class _Lot:
    """A mapping that gives another value each time it is asked for a slot."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __getitem__(self, slot: str) -> str:
        return self._chance.choice(_DRAWN[slot])


def sentences(seed: str) -> Iterator[str]:
    """Sentences by lot, the same for the same seed, each with the white space that follows it: a space, or a line feed after a paragraph."""
    chance = random.Random(seed)
    lot = _Lot(chance)
    while True:
        order = chance.sample(range(len(_SENTENCES)), chance.randint(_SHORTEST, _LONGEST))
        for place, number in enumerate(order, 1):
            text = _SENTENCES[number].format_map(lot)
            yield f"{text[0].upper()}{text[1:]}" + ("\n" if place == len(order) else " ")


def vocabulary() -> frozenset[str]:
    """Every word that may come up, in lower case."""
    drawn = " ".join(" ".join(values) for values in _DRAWN.values())
    fixed = " ".join(_SENTENCES)
    for slot in _DRAWN:
        fixed = fixed.replace("{" + slot + "}", " ")
    return frozenset("".join(char if char.isalnum() else " " for char in f"{drawn} {fixed}".lower()).split())

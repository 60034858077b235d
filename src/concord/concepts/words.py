"""The words of a phrase: what it says, and which of them say what no picture shows, by a curated list.

A word that also has a visual meaning is left out (a sharp edge, tree bark, a price tag) or let pass in the compounds
that are visual (a sound hole, a sweet potato). A phrase that a person knows to be visual can be put differently.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

Words = tuple[str, ...]


def words(text: str) -> Words:
    """The words of a text without case, accents and punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return tuple(re.findall(r"[^\W_]+", plain.casefold()))


def gist(phrase: str) -> Words:
    """What a phrase says: its words without articles. Two phrases of one gist are the same phrase."""
    said = words(phrase)
    return tuple(word for word in said if word not in ("a", "an", "the")) or said


_WORDS = {
    "behaviour": """behaves behaviour behaviours behavior behaviors behavioural behavioral chases chasing hunts
        hunting preys preying predator predators predatory herds herding guarding retrieves retrieving burrows
        burrowing migrates migrating migratory nocturnal diurnal hibernates hibernating mates mating breeds loves
        enjoys prefers tends swims climbs leaps pounces grazes forages roosts wags wagging eats feeds gallops crawls
        slithers sleeps protects patrols fetches obeys gait gaits agile agility stamina endurance instinct instincts
        instinctive instinctively trainable""",
    "habitat": "habitat habitats inhabits inhabiting endemic dwelling",
    "temperament": """temperament temperaments personality loyal loyalty affectionate obedient obedience playful
        playfully stubborn docile friendly friendliness unfriendly aggressive aggression intelligent intelligence
        clever brave courageous courage fearless timid shy curious curiosity energetic energy confident confidence
        vigilant watchful mischievous sociable gregarious outgoing cheerful devoted faithful even-tempered
        good-natured""",
    "sound": """barking barks howl howls howling yap yaps yapping yappy growl growls growling meow meows meowing purr
        purrs purring chirp chirps chirping croak croaks croaking roars roaring neigh neighs neighing whinny whinnies
        whinnying brays braying bleats bleating squawk squawks squawking hoots hooting honks honking clucks clucking
        moos mooing quack quacks quacking hiss hisses hissing caws cawing snorts snorting sings singing song songs
        melodic melodious loud loudly noisy noise noises sound sounds sounding buzzes buzzing hums humming audible
        vocal vocalisation vocalisations vocalization vocalizations crunching""",
    "taste": """taste tastes tasting tasty flavour flavours flavoured flavourful flavoursome flavor flavors flavored
        flavorful delicious yummy savoury savory salty sweetness bitter sour spicy tangy umami zesty piquant
        appetising appetizing mouthwatering mouth-watering palatable""",
    "smell": """smell smells smelling smelly scent scents scented odour odours odor odors aroma aromas aromatic
        fragrance fragrant perfumed pungent stink stinks stinky stench""",
    "touch or weight": """comfortable comfortably comfy cosy cozy breathable chewy weighs weighing kilograms
        kilogrammes lukewarm hypoallergenic""",
    "use": """useful usefulness purpose purposes function functions functional functionality utility usage eaten
        edible versatile durable durability waterproof washable""",
    "health": """healthy unhealthy nutritious nutrition nutritional nutrients vitamins calories lifespan longevity
        poisonous venomous toxic dangerous""",
    "provenance": """originates originated originating origin origins originally native traditionally historically
        history invented descended descends ancestry ancestor ancestors imported homemade home-made purebred pedigree
        handcrafted authentic authentically bred""",
    "reputation": "famous famously popular popularity renowned beloved iconic commonly well-known",
    "price": "expensive inexpensive cheap cheaply costly costs affordable priced pricey overpriced budget",
}
_PHRASES = {
    "use": (
        r"used (?:for|to|in|by|as|at|on|during|when)",
        r"(?:worn|kept|served|eaten|driven|played|ridden|sold) (?:at|as|by|during|for|in (?:summer|winter|spring))",
        r"(?:keeps|carries|transports|hauls|shelters|stores) (?!its\b|their\b)",
        r"(?:can|good) (?:carry|hold|for|be)",
        r"(?:designed|intended|ideal|suitable|suited|perfect|made|built) (?:for|to)",
    ),
    "behaviour": (
        r"likes to",
        r"able to",
        r"capable of",
        r"known (?:for|as)",
        r"(?:runs|walks|moves|swims|travels|lives) (?:very |so )?(?:fast|slowly|quickly|well|alone)",
    ),
    "habitat": (r"(?:lives?|found) (?:in|on|near|at|around|throughout)",),
    "taste": (r"sweet(?! (?:potato|potatoes|corn|sweetcorn|pea|peas|pepper|peppers)\b)",),
    "touch or weight": (r"to the touch", r"feels", r"(?:soft|rough|smooth|silky|warm|cold) feel"),
}
_VISUAL = (
    r"sound (?:hole|holes|board|boards|box|post|bar)",
    r"sour cream",
    r"bitter (?:melon|gourd|greens|leaves)",
    r"edible (?:flower|flowers|glitter|gold|leaf|petals)",
    r"(?:half|moth)-eaten",
    r"(?:function|utility) (?:key|keys|button|buttons|pole|poles|belt)",
    r"hunting (?:cap|coat|horn|jacket|knife)",
    r"vocal (?:sac|sacs)",
)
"""Compounds whose word has a visual meaning there."""
_PATTERNS = {
    category: re.compile(rf"\b(?:{'|'.join([*map(re.escape, some.split()), *_PHRASES.get(category, ())])})\b")
    for category, some in _WORDS.items()
}
_LET_PASS = re.compile(rf"\b(?:{'|'.join(_VISUAL)})\b")


_REFUSES = re.compile(
    r"\b(?:i|we)(?: am|['\u2019]m| are|['\u2019]re)? (?:(?:really|very|so) )?(?:sorry|unable|not (?:able|allowed))\b"
    r"|\b(?:i|we) (?:can(?:no|['\u2019])t|can not|won['\u2019]t|will not|must decline|have to decline|apologi[sz]e)\b"
    r"|\A\W*sorry(?:[,.]| but)|\bas an ai\b|\bas a language model\b|\bagainst (?:my|our) (?:guidelines|polic)",
    re.I,
)


def refuses(text: str) -> bool:
    """Whether a language model declines in a text, instead of describing anything."""
    return _REFUSES.search(text) is not None


_ENGLISH = {*words("with and of the its from in at on by as than that like a an")}
_ELSEWHERE = {
    *words(
        "de des du le les au aux avec et sur une dans und mit der das dem den ein eine auf vom con los las el una y"
    ),
    *words("com uma di della il gli een het och med til"),
}


def foreign(phrases: Sequence[str], asked: str) -> frozenset[str]:
    """The phrases that are in another language than a text that was asked with, or than English.

    Other scripts are told by their letters, phrase by phrase. Other languages of Latin script are told by their small
    words, where a third of three or more phrases have such and no English one.
    """
    scripts = {*map(_script, asked), "LATIN"}
    ours = {p: [_script(c) in scripts for c in p if c.isalpha()] for p in phrases}
    speaking = [p for p in phrases if _ELSEWHERE & {*words(p)} and not _ENGLISH & {*words(p)}]
    if len(phrases) > 2 and 3 * len(speaking) >= len(phrases) and not _ELSEWHERE & {*words(asked)}:
        return frozenset(phrases)
    return frozenset(p for p, letters in ours.items() if 2 * sum(letters) < len(letters))


def _script(character: str) -> str:
    """The script of a letter, by its Unicode name; that of Chinese and Japanese is one. Empty for what is no letter."""
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "") if character.isalpha() else ""
    script = name.partition(" ")[0].partition("-")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA", "IDEOGRAPHIC") else script


def non_visual(phrase: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a phrase that no picture shows, each with what it is about: ("loyal", "temperament")."""
    text = _LET_PASS.sub(" ", " ".join(phrase.casefold().split()))
    for category, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            yield match.group(), category

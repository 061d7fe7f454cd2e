"""Seeded requests for simple stories and answers, each with the first words that the writer must go on from."""

import random
from dataclasses import dataclass


def words(text: str) -> list[str]:
    return text.split()


def phrases(text: str) -> list[str]:
    """The parts between bars, with line breaks read as spaces."""
    return [" ".join(phrase.split()) for phrase in text.split("|")]


NAMES = words("""
Anna Ben Clara Daisy Emma Finn Grace Henry Ivy Jack Kate Leo Lily Lucy Max Mia Milo Molly Nina Noah Olive Oscar
Penny Peter Pip Rosie Ruby Sam Sara Sophie Teddy Tim Toby Tom Violet Will Zoe Bella Charlie Coco Ella Felix
Ginger Hazel Jasper Kiki Luna Marta Ned Otto Poppy Quinn Rex Sunny Tilly Uma Victor Wanda Yara Zack
""")
ANIMALS = words("""
cat dog rabbit fox bear mouse owl duck frog turtle squirrel hedgehog pig cow horse sheep goat lion elephant
monkey penguin whale dolphin fish bird bee butterfly ant snail spider deer wolf kitten puppy chick crab seal
parrot swan donkey
""")
PEOPLE = words("""
girl boy baker farmer teacher doctor painter fisherman gardener sailor king queen grandmother child
""")
ADJECTIVES = words("""
little brave shy kind curious happy clever lazy lonely tired hungry small young old gentle funny quiet proud sad
careful
""")
PLACES = phrases("""
the forest|the beach|the park|the garden|the farm|the river|the lake|the mountain|the city|the village|
the school|the market|the kitchen|the library|the zoo|the snow|the meadow|the sea|the castle|
the old house|the playground|the train station|the hill|the bakery|the island|the cave|the big tree|
the bridge|the barn|the shop
""")
THINGS = phrases("""
ball|book|red hat|kite|blue boat|cake|key|apple|box|flower|shiny stone|bell|lamp|letter|toy car|
drum|mirror|map|basket|blanket|umbrella|ladder|bicycle|balloon|star|feather|shell|coin|clock|
cup of milk|song|picture|seed|pumpkin|rope|pair of shoes|wooden horse|loaf of bread|jar of honey|
snowman
""")
EVENTS = phrases("""
gets lost|makes a new friend|learns to share|finds a secret|helps a friend|is afraid of the dark|
wants to fly|loses a toy|plants a seed|bakes a cake|tells a lie and is sorry|wins a race|cannot sleep|
builds a house|goes on a trip|has a birthday|learns to swim|finds a treasure|saves a bird|misses home|
breaks a cup|shares lunch|waits for the snow|hears a strange noise|learns to say sorry|wants to be big|
paints a picture|sings a song|looks for the moon|gets a surprise
""")
SUBJECTS = phrases("""
the sun|the moon|a star|rain|snow|wind|a river|the sea|a mountain|a forest|a tree|a flower|a seed|
an apple|bread|milk|honey|salt|sugar|water|ice|fire|a house|a door|a window|a bridge|a road|a car|
a train|a boat|an airplane|a bicycle|a clock|a book|a letter|a map|a school|a library|a hospital|
a farm|a market|a garden|a kitchen|a teacher|a doctor|a farmer|a baker|a firefighter|a friend|
a family|a birthday|music|a song|a drum|a guitar|a piano|a picture|a color|a shadow|a rainbow|
a cloud|a storm|winter|summer|spring|autumn|night|morning|sleep|a dream|a game|a ball|a computer|
a telephone|a lamp|a key|a shoe|a hat|a coat|a cup|a spoon|a chair|a table|a bed|soap|paper|
a pencil|gold|iron|glass|wood|sand|a stone|the heart|the brain|the eyes|the ears|the hand|a tooth|
kindness|love|courage|patience|time|money|a job|a city|a village|an island|a desert|a volcano|
a planet|the earth|gravity|light|sound|electricity|a magnet|a wheel|a robot|a museum|a story|a poem|
a word|a number|mathematics|science|history
""")
PLURALS = phrases("""
cats|dogs|rabbits|foxes|bears|mice|owls|ducks|frogs|turtles|squirrels|pigs|cows|horses|sheep|
goats|lions|elephants|monkeys|penguins|whales|dolphins|fish|birds|bees|butterflies|ants|snails|
spiders|deer|wolves|crabs|seals|parrots|swans|tigers|snakes|bats|camels|giraffes|chickens|sharks|
kangaroos|crocodiles|eagles
""")
ACTIONS = phrases("""
sleep|eat breakfast|read books|wash their hands|go to school|wear shoes|plant trees|keep pets|
sing songs|tell stories|save money|use maps|drink water|play games|say thank you|brush their teeth|
learn to swim|build bridges|bake bread|write letters|celebrate birthdays|wear coats in winter|
look at the stars|help each other|travel|cook food|grow vegetables|listen to music|draw pictures|laugh|
cry|dream|work|exercise|share
""")
DISHES = phrases("""
bread|soup|a salad|pancakes|tea|lemonade|a sandwich|a cake|cookies|rice|an omelette|apple pie|pizza|
popcorn|hot chocolate|a snowman|a kite|a paper boat|a birthday card|a garden|a bird house|a sand castle|
a friend
""")
COUNTRIES = words("""
France Germany Italy Spain Japan China India Egypt Canada Brazil Mexico Greece Russia England Portugal Norway
Sweden Poland Austria Turkey Kenya Peru Cuba Ireland
""")
QUALITIES = words("""
kindness honesty patience courage sharing sleep water friendship practice sunlight exercise reading listening
respect curiosity food nature teamwork hope laughter
""")

STORY_TOKENS, ANSWER_TOKENS = 136, 56


@dataclass(frozen=True)
class Request:
    """What the writer is asked, how its text must begin, and the question that the corpus shows (if any)."""

    prompt: str
    start: str
    question: str | None
    max_tokens: int


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def story(rng: random.Random) -> Request:
    """A story of a named hero, in half of the cases as the answer to a question that asks for it."""
    name, adjective = rng.choice(NAMES), rng.choice(ADJECTIVES)
    kind = rng.choice(ANIMALS) if rng.random() < 0.7 else rng.choice(PEOPLE)
    place, thing, event = rng.choice(PLACES), rng.choice(THINGS), rng.choice(EVENTS)
    hero, day = article(f"{adjective} {kind}"), rng.choice(["One day", "One morning", "One evening"])
    start = rng.choice(
        [
            f"Once upon a time, there was {hero} named {name} who lived near {place}. {day},",
            f"Once upon a time, {hero} named {name} lived in a small house near {place}. {day},",
            f"Once upon a time, there was {hero} named {name}. {name} had {article(thing)}. {day},",
            f"{name} was {hero} who loved {place}. {day}, {name} found {article(thing)}.",
            f"{day}, {hero} named {name} went to {place} to look for {article(thing)}.",
            f"There was once {hero} who had {article(thing)}. {day}, a friend came to visit.",
        ]
    )
    asked = rng.choice(
        [
            f"Tell me a story about {hero}.",
            f"Tell me a story about {hero} who {event}.",
            f"Can you tell me a story about {article(kind)} and {article(thing)}?",
            f"Tell me a story about {article(kind)} named {name}.",
        ]
    )
    prompt = f"Tell me a short story about {hero} named {name} who {event}."
    return Request(prompt, start, asked if rng.random() < 0.5 else None, STORY_TOKENS)


def short_answer(question: str, start: str) -> Request:
    return Request(f"Answer in one or two short and simple sentences. {question}", start, question, ANSWER_TOKENS)


def question(rng: random.Random) -> Request:
    """A simple question and the first words of its answer."""
    subject, animals, action = rng.choice(SUBJECTS), rng.choice(PLURALS), rng.choice(ACTIONS)
    dish, country, quality = rng.choice(DISHES), rng.choice(COUNTRIES), rng.choice(QUALITIES)
    choices = [
        (4, f"What is {subject}?", f"{capitalised(subject)} is"),
        (2, f"What is {subject} used for?", f"{capitalised(subject)} is"),
        (2, f"Why is {subject} important?", f"{capitalised(subject)} is important because"),
        (2, f"Tell me something about {subject}.", f"{capitalised(subject)}"),
        (2, f"Where do {animals} live?", f"{capitalised(animals)} live"),
        (2, f"What do {animals} eat?", f"{capitalised(animals)} eat"),
        (2, f"What can {animals} do?", f"{capitalised(animals)} can"),
        (1, f"What do {animals} look like?", f"{capitalised(animals)}"),
        (1, f"Are {animals} dangerous?", rng.choice(["Yes,", "No,"])),
        (3, f"Why do people {action}?", f"People {action}"),
        (1, f"When should you {action}?", "You should"),
        (2, f"How do you make {dish}?", f"To make {dish}, you"),
        (1, f"What is the capital of {country}?", f"The capital of {country} is"),
        (1, f"What is {country} known for?", f"{country} is known for"),
        (1, f"Why does {quality} matter?", f"{capitalised(quality)}"),
        (1, f"What is the difference between {animals} and {rng.choice(PLURALS)}?", f"{capitalised(animals)}"),
        (1, f"What should I do if I feel {rng.choice(['sad', 'tired', 'angry', 'bored', 'sick', 'lonely'])}?", "You"),
        (1, f"What can you see at {rng.choice(PLACES)}?", "You can see"),
    ]
    weights = [weight for weight, *_ in choices]
    _, asked, start = rng.choices(choices, weights)[0]
    return short_answer(asked, start)


def requests(count: int, seed: int, story_share: float = 0.4) -> list[Request]:
    """`count` requests, the same for the same seed."""
    rng = random.Random(seed)
    return [story(rng) if rng.random() < story_share else question(rng) for _ in range(count)]

"""The six styles of the built-in data: the sentences around a task, and the names in them."""

from typing import NamedTuple


class Style(NamedTuple):
    """Texts before and after a task, and the names that fill their {who}."""

    openings: tuple[str, ...]
    closings: tuple[str, ...]
    names: tuple[str, ...]


STYLES_BY_NAME: dict[str, Style] = {
    "kitchen": Style(
        (
            "While the soup simmers and the bread is in the oven,",
            "Our chef {who} is peeling onions for the stew, so please",
            "Before we whisk the eggs with butter and sugar,",
        ),
        (
            "Then {who} will stir the pot and taste the sauce.",
            "The cake with lemon and cream comes out of the oven soon.",
            "Dinner for the hungry guests is almost on the table.",
        ),
        ("Rosa", "Pierre", "Amina", "Bruno"),
    ),
    "harbour": Style(
        (
            "The tide is rising and captain {who} hoists the sails, so",
            "From the old lighthouse above the foggy bay,",
            "As the fishing boats return with nets full of herring,",
        ),
        (
            "The sailors on the pier wait for a fair wind.",
            "After that {who} drops the anchor beside the rusty ship.",
            "Gulls circle over the waves and the salty deck.",
        ),
        ("Olaf", "Marina", "Hector", "Nell"),
    ),
    "detective": Style(
        (
            "Inspector {who} found a torn glove near the broken window, so",
            "In the dark alley where the thief lost the jewels,",
            "The witness swears the butler had the missing key;",
        ),
        (
            "The case of the stolen painting depends on this clue.",
            "Only then can {who} arrest the suspect at midnight.",
            "Fingerprints on the safe will prove who is guilty.",
        ),
        ("Holt", "Vera", "Quinn", "Dupont"),
    ),
    "football": Style(
        (
            "With the score level and ten minutes left in the match,",
            "Coach {who} gathers the team on the muddy pitch and says:",
            "Our striker hit the post and the crowd is roaring, so",
        ),
        (
            "The referee blows the whistle for a penalty kick.",
            "Then {who} takes the corner and the keeper dives.",
            "A goal now would win the league and the trophy.",
        ),
        ("Diego", "Kofi", "Megan", "Lars"),
    ),
    "letter": Style(
        (
            "My dear grandmother {who}, I hope your knee is better;",
            "Thank you for the warm scarf and the lovely birthday card;",
            "Greetings from our rainy holiday at the lake, dear aunt;",
        ),
        (
            "With love and kisses from all the cousins.",
            "Please hug uncle {who} and feed the old cat for me.",
            "I will write again soon and send photographs.",
        ),
        ("Edith", "Walter", "Clara", "Hugo"),
    ),
    "space": Style(
        (
            "Mission control to shuttle, the orbit is stable, so",
            "Commander {who} reports a meteor near the silver moon;",
            "Before the rocket lands on the red planet with its crew,",
        ),
        (
            "The astronauts repair the antenna under the distant stars.",
            "Oxygen is low and {who} floats back to the airlock.",
            "Our satellite will send the signal to earth.",
        ),
        ("Yuri", "Stella", "Orion", "Mae"),
    ),
}

"""Simple stories in grammatical English, from a small plot grammar of our own."""
from words import ANIMALS, COLORS, NAMES, PLACES, TOYS, article

TRAITS = "brave careful cheerful clever curious friendly gentle happy kind lonely merry patient polite quiet shy silly sleepy small young".split()
WEATHER = ["The sun was shining.", "It was a warm day.", "It was raining outside.", "The wind was soft and cool.",
           "Snow lay on the ground.", "The sky was clear and blue.", "It was early in the morning.",
           "The birds were singing.", "It was a quiet evening.", "The leaves were red and yellow."]
FOODS = ["a red apple", "some bread", "a piece of cake", "a bowl of soup", "some honey", "a warm pie", "some cheese", "a sweet pear"]
GAMES = ["hide and seek", "catch", "with a ball", "by the water", "in the leaves", "in the sun", "in the grass"]
MORALS = ["{N} learned that it is good to share.", "{N} learned that friends help each other.",
          "From that day on, {N} was never lonely again.", "{N} knew that being kind is the best thing of all.",
          "{N} learned to ask for help.", "From that day on, {N} always told the truth.",
          "{N} learned that small steps lead far.", "And {N} never forgot that day."]
ENDS = ["They lived happily ever after.", "Then they all went home.", "That night {N} slept very well.",
        "It was the best day of the year.", "Everyone was happy.", "The end.", "{N} smiled all the way home.",
        "{N} was tired but very happy."]


class Cast:
    """Who is in a story: a hero, a friend, their pronouns, a thing and a place."""

    def __init__(self, r):
        self.r = r
        girls = {"Alice", "Amy", "Anna", "Bella", "Clara", "Cora", "Daisy", "Dora", "Ella", "Emma", "Eva", "Flora",
                 "Grace", "Hana", "Helen", "Ida", "Jane", "Jill", "Julia", "Kate", "Lara", "Lily", "Lucy", "Mara",
                 "Mary", "Mia", "Molly", "Nancy", "Nell", "Nina", "Nora", "Olga", "Polly", "Rosa", "Ruth", "Sally",
                 "Sara", "Sophie", "Tess", "Una", "Vera", "Zoe"}
        self.N, self.F = r.sample(NAMES, 2)
        self.she = self.N in girls
        self.kind = r.choice(["girl" if self.she else "boy"] * 2 + [r.choice(ANIMALS)] * 2)
        self.he, self.him, self.his = ("she", "her", "her") if self.she else ("he", "him", "his")
        self.fkind = r.choice(ANIMALS)
        self.color = r.choice(COLORS)
        self.thing = r.choice(TOYS)
        self.place, self.place2 = r.sample(PLACES, 2)
        self.trait, self.trait2 = r.sample(TRAITS, 2)
        self.food = r.choice(FOODS)
        self.game = r.choice(GAMES)

    def fill(self, s):
        text = s.format(N=self.N, F=self.F, he=self.he, him=self.him, his=self.his, kind=self.kind,
                        fkind=self.fkind, color=self.color, thing=self.thing, place=self.place, place2=self.place2,
                        trait=self.trait, food=self.food, game=self.game,
                        a_trait=article(self.trait), a_trait2=article(self.trait2), a_color=article(self.color),
                        a_fkind=article(self.fkind), a_thing=article(self.thing), trait2=self.trait2)
        return text[0].upper() + text[1:] if text[0] != '"' else '"' + text[1].upper() + text[2:]


OPENINGS = [
    "Once upon a time, there was {a_trait} {kind} named {N}.",
    "Once upon a time, {a_trait} {kind} named {N} lived near the {place}.",
    "One day, {a_trait} {kind} named {N} went to the {place}.",
    "There was once {a_trait} {kind} called {N}.",
    "Long ago, in a house by the {place}, lived {a_trait} {kind} named {N}.",
    "{N} was {a_trait} {kind} who lived near the {place}.",
]
LIKES = [
    "{N} loved to play {game}.", "Every day {he} walked to the {place}.", "{he} had {a_color} {thing} that {he} loved very much.",
    "{he} liked to sit in the {place} and look at the sky.", "{N} wanted to have a friend.", "{N} liked {food} more than anything.",
    "{his} best friend was {a_fkind} named {F}.",
]
LOST = [
    ["One day, {N} lost {his} {color} {thing}.", "One morning the {color} {thing} was gone."],
    ["{he} looked in the {place}, but it was not there.", "{he} looked everywhere, but {he} could not find it."],
    ["{N} was very sad and began to cry.", "{N} sat down and did not know what to do."],
    ["Then {a_fkind} named {F} came by.", "Just then, {F} the {fkind} walked by."],
    ['"Why are you sad?" asked {F}.', '"What is wrong?" asked the {fkind}.'],
    ['"I lost my {thing}," said {N}.', '"I cannot find my {color} {thing}," {he} said.'],
    ['"I will help you," said {F}.', '"Do not cry, we will look for it together," said {F}.'],
    ["They looked in the {place2}, and there was the {thing}!", "After a while they found the {thing} in the {place2}."],
    ['"Thank you!" said {N}, and {he} hugged {F}.', "{N} was so happy that {he} danced."],
]
FOUND = [
    ["One day, {N} found {a_color} {thing} in the {place}.", "While {he} was walking in the {place}, {N} saw {a_color} {thing}."],
    ['"Whose {thing} is this?" {he} thought.', "{he} picked it up and looked at it."],
    ["{he} asked a {fkind} named {F}.", "Soon {he} met {F}, a {trait2} {fkind}."],
    ['"Is this your {thing}?" asked {N}.', '"Did you lose {a_thing}?" asked {N}.'],
    ['"Yes, it is mine! I lost it in the {place}," said {F}.', '"Oh yes, I looked for it all day," said {F}.'],
    ["{N} gave the {thing} back.", "So {N} gave the {color} {thing} to {F}."],
    ["{F} was very happy and gave {N} {food}.", "{F} thanked {him}, and they ate {food} together."],
]
FEAR = [
    ["One day, {N} wanted to go to the {place2}.", "{N} wanted to see the {place2}, but it was far away."],
    ["But {he} was afraid of the dark.", "But it was dark, and {he} was afraid."],
    ["{his} friend {F} the {fkind} came along.", '"I will come with you," said {F} the {fkind}.'],
    ["They walked and walked.", "They walked slowly, step by step."],
    ["Then they heard a loud noise.", "Suddenly there was a sound behind a tree."],
    ["It was only a little {fkind} who wanted to play.", "It was only the wind in the leaves."],
    ["They laughed, and {N} was not afraid any more.", '"I am not afraid now," said {N}.'],
    ["At last they came to the {place2} and played {game}.", "Soon they were at the {place2}, and it was beautiful."],
]
SHARE = [
    ["One day, {N} had {food}.", "{his} mother gave {him} {food}."],
    ["{he} met {F}, a hungry {fkind}.", "{F} the {fkind} came by and was very hungry."],
    ['"May I have a bit?" asked {F}.', '"I have not eaten all day," said {F}.'],
    ["At first, {N} did not want to share.", "{N} thought about it for a while."],
    ['Then {he} said, "Yes, we can eat it together."', "Then {he} gave half of it to {F}."],
    ["They sat down by the {place} and ate.", "They ate together in the {place}."],
    ["After that they played {game}.", "{F} showed {him} {a_color} {thing} to say thank you."],
]
BUILD = [
    ["One day, {N} wanted to make {a_thing}.", '"I will make {a_color} {thing}," said {N} one day.'],
    ["{he} tried, but it broke.", "{he} worked all morning, but it was too hard."],
    ["{N} tried again, and it broke again.", "{N} was angry and wanted to stop."],
    ['"Do not give up," said {F} the {fkind}.', "Then {F} the {fkind} came and showed {him} how to do it."],
    ["They worked together until the evening.", "Slowly, they made it piece by piece."],
    ["At last, the {thing} was ready, and it was {color} and beautiful.", "When it was done, everyone came to see the {color} {thing}."],
]
PLOTS = [LOST, FOUND, FEAR, SHARE, BUILD]


def story(r, length=1.0):
    """The sentences of one story."""
    c = Cast(r)
    out = [r.choice(OPENINGS)]
    out += r.sample(LIKES, r.choice([1, 1, 2]))
    if r.random() < 0.5:
        out.insert(r.choice([1, len(out)]), r.choice(WEATHER))
    for step in r.choice(PLOTS):
        if r.random() < 0.9:
            out.append(r.choice(step))
    if r.random() < 0.6:
        out.append(r.choice(MORALS))
    out.append(r.choice(ENDS))
    return [c.fill(s) for s in out], c

"""Word lists the generators draw from. All our own."""


def _w(s):
    return s.split()


ADJECTIVES = _w("""
amber ancient angry bitter blue bold brave brief bright brisk broad broken busy calm careful cheap clean clear clever
cold cool crimson curious daring dark deep distant dry dull dusty eager early easy empty faint famous fancy fast fierce
fine firm flat fond fragile free fresh friendly full gentle giant glad golden grand gray great green grumpy happy hard
harsh heavy hidden high hollow honest hot huge humble hungry icy idle jolly keen kind large late lazy lively lonely long
loose loud lovely low lucky mad mellow merry mild misty modern narrow neat new nimble noble noisy odd old olive open
orange pale patient plain pleasant polite poor proud pure purple quaint quick quiet rapid rare raw ready red rich ripe
rough round rude rusty sad safe salty scarlet secret shady shallow sharp shiny short shy silent silly silver simple
sleepy slow small smart smooth soft solid sour spare steep stiff stormy strange strict strong sturdy sunny sweet swift
tall tame tender thick thin tidy tiny tired tough vast violet vivid warm wary weary wet white wide wild windy wise
witty wooden yellow young zealous zesty
""")

NOUNS = _w("""
acorn anchor apple arrow autumn badge bakery ball banner barrel basket beach bead bear bell bench berry bird blanket
blossom boat bone book boot bottle bowl box branch bread breeze brick bridge broom brush bucket button cabin cake
camera camp canal candle canyon carpet carrot castle cave chair chalk cherry chest circle city cliff clock cloud coat
coin compass copper coral corner cottage cotton crab crane creek crown cup curtain dagger daisy desert desk dinner
doctor donkey door dragon drawer dream drum eagle engine evening falcon farm feather fence ferry field finger fire
flag flame flower flute fog forest fork fountain fox frost fruit garden garlic gate ghost glacier glass glove goat
grape guitar hammer harbor harvest hat hill honey horn horse hotel hour house insect iron island jacket jar jewel
journey jungle kettle key king kitchen kite knife ladder lake lamp lantern leaf lemon letter library lily lion lizard
machine magnet maple map marble market meadow medal melon mirror moon morning mountain mouse museum music nail napkin
needle nest night oak ocean office onion orchard otter oven owl paint palace panda paper parade parrot path peach
pearl pebble pencil pepper piano picture pigeon pillow pine pirate planet plate pocket poem pond potato prince prize
puppet puzzle quarry queen quilt rabbit rain raven ribbon rice river road robin rocket roof rope rose saddle sail
sailor salmon sand school sea shadow sheep shell ship shirt shoe shop silk sister sky snail snow soap soldier song
spider spoon spring square stable star station statue stone storm stove street sugar summer swan table tailor tea
teacher teapot temple tent thunder ticket tiger torch tower town toy train tree trumpet tunnel turtle umbrella uncle
uniform valley vase village violin wagon wall walnut water wave whale wheel whistle willow window winter wolf wood
yarn zebra zipper
""")

NAMES = _w("""
Adam Alice Amy Anna Ben Bella Bob Carl Clara Cora Dan Daisy David Dora Ella Emma Eric Eva Finn Flora Fred George Grace
Hana Harry Helen Henry Ida Ivan Jack Jane Jill Joe John Julia Kate Ken Lara Leo Lily Lucy Luke Mara Mark Mary Max Mia
Milo Molly Nancy Ned Nell Nina Noah Nora Olga Oscar Otto Paul Peter Polly Rosa Ruth Sally Sam Sara Sid Sophie Tess Tim
Toby Tom Una Vera Walter Will Zoe
""")

ANIMALS = _w("""
bear bee bird cat cow crab crow deer dog donkey duck fish fox frog goat goose hedgehog hen horse kitten lamb lion
mouse otter owl panda pig pony puppy rabbit robin sheep snail squirrel swan tiger turtle whale wolf
""")

PLACES = _w("""
barn beach bridge castle cave farm field forest garden hill house island kitchen lake library market meadow mill
mountain park pond river road school shop square station tower town valley village wood yard
""")

TOYS = _w("""
apple ball balloon bell blanket boat book box bucket cake candle car coat coin cookie crown cup doll drum flag flower
flute hat kite ladder lamp leaf letter map mirror pearl pencil picture pie puzzle ribbon ring rope scarf seed shell
shoe spoon star stone stick sword teapot toy train umbrella whistle
""")

COLORS = _w("red blue green yellow white black brown pink purple orange golden silver gray")

SYLLABLES = _w("""
al an ar bel ber bor bran cal cor dal dar del dor el en fal far fen gar gil gor hal har hol il jor kal kel kor lan lar
len lor mal mar mel mir mor nal nor or pel per quin ral ran rin rol sal sel sor tal tar ther tor ul val van ver vil
wal wen wes win yor zan zel
""")

ENDINGS = _w("a ash bury by dale den don en eth ford gate ham ia in is land ley lin mere mont mouth o on ster ton us wick worth")


def key(r):
    return r.choice(ADJECTIVES) + "-" + r.choice(NOUNS)


def distinct(r, n, make):
    """n different results of make(r), in the order drawn."""
    out = []
    while len(out) < n:
        k = make(r)
        if k not in out:
            out.append(k)
    return out


def proper(r):
    """An invented proper name: Belford, Quinmere ..."""
    return (r.choice(SYLLABLES) + r.choice(["", "", r.choice(SYLLABLES)]) + r.choice(ENDINGS)).capitalize()


def article(w):
    return ("an " if w[0] in "aeiou" else "a ") + w

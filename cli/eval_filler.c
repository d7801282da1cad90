/* Sentences and names. The built-in sentences hold no digits, no quotes and none of the words that
 * a question turns on, so that whatever is hidden between them is there once. */
#include "eval_filler.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A prime number of them (and of the words below): any step from one to the next visits all. */
static const char *const sentences[] = {
    "The ferry left the harbour an hour late, and nobody on deck seemed to mind.",
    "Her uncle repaired clocks in a shop that smelled of oil and old paper.",
    "By noon the fog had lifted from the valley and the sheep could be counted again.",
    "They argued about the map until the rain washed the ink from it.",
    "A bakery on the corner sells bread so dark that children think it is burnt.",
    "The orchestra tuned for a long time because the hall was cold.",
    "He kept a list of every bird that had visited the garden since spring.",
    "Two engineers walked the length of the bridge and tapped each bolt with a hammer.",
    "In winter the lake freezes from the northern shore and the boats are pulled up early.",
    "The librarian knew where a book stood by the colour of its back.",
    "Someone had painted the gate blue and left the brush in the grass.",
    "The train stops at a village that has a platform but no road.",
    "Grandmother salted the cabbage, pressed it with a stone and told us to wait.",
    "The second act was better than the first, though half of the audience had gone home.",
    "Wind from the sea bends the trees of that coast until they point inland.",
    "Our neighbour lends his ladder to anyone who brings it back before dark.",
    "The museum closes its upper rooms when the guards go to lunch.",
    "A kite was caught in the wires and hung there until autumn.",
    "She learned the language by reading recipes aloud to her cat.",
    "The miller complained that the river was lazy that year.",
    "When the lamps went out, the guests found their coats by touch.",
    "Old rope, new nails and a little patience were enough to mend the pier.",
    "The path climbs through beech woods and comes out beside a chapel.",
    "Nobody remembers who planted the walnut tree in the school yard.",
    "He whistled the same tune every morning and never finished it.",
    "The committee met twice and agreed only on the date of a third meeting.",
    "Snow on the roof slid down all at once and frightened the dog.",
    "The potter turns away from the wheel when she thinks about money.",
    "At the market a man was selling mirrors, and every buyer looked surprised.",
    "The last bus carried a sleeping child and a crate of oranges.",
    "They measured the field with a chain and wrote the result on a fence post.",
    "A good cook tastes the soup more often than the guests will.",
    "The tide brought in planks from a ship that no one had missed.",
    "In the attic there were letters tied with string and a drum without a skin.",
    "The gardener waters the roses late, when the bees are done.",
    "Her brother could fold a newspaper into a hat that kept out real rain.",
    "The lecture was about moss, and it was full to the last row.",
    "Trucks leave the quarry at dawn and come back white with dust.",
    "He moved the piano to the window and played worse but happier.",
    "The well is deep enough that a stone takes a breath to reach the water.",
    "On holidays the square is full of chairs that belong to nobody.",
    "The tailor marked the sleeve with chalk and asked about the weather.",
    "A storm took the roof of the barn and left the owls inside unharmed.",
    "The apprentice swept the floor before he was allowed to touch the glass.",
    "We followed the stream because it seemed to know the way.",
    "The mayor opened the fair with a speech shorter than the applause.",
    "Smoke from the kilns drifts over the town whenever the wind turns east.",
    "She put a lantern on the sill so that the late ones would see the door.",
    "The horse refused the bridge and had to be led through the ford.",
    "Every summer the same family rents the house with the crooked chimney.",
    "The printer found an error on the first page and drank his tea before he fixed it.",
    "Beyond the hills there is another valley, and they say it is just like this one.",
    "The glazier carried the pane across the street as if it were asleep.",
};
enum { N_SENTENCES = sizeof sentences / sizeof sentences[0] };
_Static_assert(N_SENTENCES == 53, "a prime");

static const char *const noise[] = {
    "The road is long.", "The hill is steep.", "The night is clear.",
    "On we walk.",       "Up and down again.",
};
enum { N_NOISE = sizeof noise / sizeof noise[0] };

static const char *const adjectives[CLI_WORDS] = {
    "amber",  "ancient", "bitter",  "brisk",  "broken",  "calm",   "clever",  "coastal", "copper",
    "cosy",   "crimson", "curly",   "dapper", "distant", "dusty",  "eager",   "early",   "faint",
    "famous", "fancy",   "fertile", "floral", "foggy",   "frozen", "gentle",  "giddy",   "golden",
    "hasty",  "hidden",  "hollow",  "humble", "icy",     "ivory",  "jolly",   "keen",    "kindly",
    "lanky",  "lively",  "loyal",   "lunar",  "marble",  "mellow", "merry",   "misty",   "modest",
    "narrow", "nimble",  "noble",   "oaken",  "olive",   "pale",   "patient", "plain",   "polite",
    "proud",  "quaint",  "quiet",   "rapid",  "rugged",  "rusty",  "silent",  "silver",  "sleepy",
    "snowy",  "solemn",  "spicy",   "steady", "stormy",  "sturdy", "sunny",   "tender",  "tidy",
    "timid",  "umber",   "velvet",  "vivid",  "weary",   "young",  "zesty",
};
static const char *const nouns[CLI_WORDS] = {
    "anchor",  "apple",   "arrow",   "badger", "balcony",  "barrel", "basket",  "beacon", "bishop",
    "blanket", "bottle",  "bucket",  "button", "cabin",    "camera", "candle",  "canyon", "carpet",
    "castle",  "cherry",  "compass", "cradle", "curtain",  "dagger", "desert",  "dragon", "engine",
    "falcon",  "feather", "fiddle",  "forest", "fountain", "garden", "glacier", "goblet", "guitar",
    "hammer",  "harvest", "helmet",  "hermit", "island",   "jacket", "jungle",  "kettle", "ladder",
    "lantern", "lemon",   "locket",  "magnet", "meadow",   "mirror", "monkey",  "needle", "orchard",
    "oyster",  "paddle",  "parcel",  "pebble", "pencil",   "pepper", "pigeon",  "pillow", "planet",
    "pocket",  "quarry",  "quilt",   "ribbon", "saddle",   "shovel", "spider",  "teapot", "temple",
    "thimble", "tunnel",  "uniform", "violin", "walnut",   "window", "zipper",
};

uint64_t cli_rng_next(struct cli_rng *rng) {
    rng->state += 0x9e3779b97f4a7c15u;
    uint64_t z = rng->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t cli_rng_below(struct cli_rng *rng, uint64_t n) { return cli_rng_next(rng) % n; }

/* The text with single spaces, so that sentences can be joined by them. */
static tl_err add_single_spaced(tl_bytes *out, tl_str text) {
    for (size_t i = 0; i < text.len;) {
        size_t end = i;
        while (end < text.len && !isspace((unsigned char)text.data[end])) {
            end++;
        }
        if (end > i && out->len > 0) {
            TL_TRY(tl_bytes_add(out, " ", 1));
        }
        TL_TRY(tl_bytes_add(out, text.data + i, end - i));
        i = end + 1;
    }
    return TL_OK;
}

static tl_err add_sentence(struct cli_filler *filler, tl_str sentence) {
    if (filler->n == filler->cap) {
        const size_t cap = filler->cap == 0 ? 256 : 2 * filler->cap;
        tl_str *const grown = realloc(filler->sentences, cap * sizeof *grown);
        if (grown == NULL) {
            return TL_ERR_MEMORY;
        }
        filler->sentences = grown;
        filler->cap = cap;
    }
    filler->sentences[filler->n++] = sentence;
    return TL_OK;
}

/* A sentence ends behind . ! or ? where a space follows and enough was said, at any space where it
 * grows too long for one, and where a script without spaces makes it much too long. */
static tl_err cut_sentences(struct cli_filler *filler) {
    enum { CHARS_MIN = 40, CHARS_MAX = 400, CHARS_END = 600 };
    const char *const data = filler->text.data;
    const size_t len = filler->text.len;
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        const size_t n = i - start;
        const bool space = data[i] == ' ' && i > start;
        const bool ended = space && n >= CHARS_MIN && strchr(".!?", data[i - 1]) != NULL;
        if (ended || (space && n >= CHARS_MAX)) {
            TL_TRY(add_sentence(filler, (tl_str){data + start, n}));
            start = i + 1;
        } else if (n >= CHARS_END && ((unsigned char)data[i] & 0xc0) != 0x80) {
            TL_TRY(add_sentence(filler, (tl_str){data + start, n}));
            start = i; /* between two characters of UTF-8 */
        }
    }
    return start < len ? add_sentence(filler, (tl_str){data + start, len - start}) : TL_OK;
}

tl_err cli_filler_open(struct cli_filler *out, tl_str text) {
    struct cli_filler filler = {0};
    tl_err err = add_single_spaced(&filler.text, text);
    if (!err && filler.text.len == 0) {
        err = TL_ERR_FORMAT;
    }
    if (!err) {
        err = cut_sentences(&filler);
    }
    if (err) {
        cli_filler_close(&filler);
        return err;
    }
    *out = filler;
    return TL_OK;
}

void cli_filler_close(struct cli_filler *filler) {
    tl_bytes_free(&filler->text);
    free(filler->sentences);
    *filler = (struct cli_filler){0};
}

tl_str cli_filler_sentence(const struct cli_filler *filler, uint64_t seed, uint64_t i) {
    struct cli_rng rng = {seed};
    if (filler->n > 0) {
        return filler->sentences[(cli_rng_below(&rng, filler->n) + i) % filler->n];
    }
    rng.state += i / N_SENTENCES; /* each round begins elsewhere and takes other steps */
    const uint64_t first = cli_rng_below(&rng, N_SENTENCES);
    const uint64_t step = 1 + cli_rng_below(&rng, N_SENTENCES - 1);
    return tl_str_from(sentences[(first + i % N_SENTENCES * step) % N_SENTENCES]);
}

tl_str cli_noise_sentence(uint64_t i) { return tl_str_from(noise[i % N_NOISE]); }

/* Name i is in row i / CLI_WORDS of the square of words by words: along a row both words go through
 * all words in steps of a seeded length (their number is prime); each row begins one second word
 * further on. */
void cli_name_at(uint64_t seed, uint32_t i, char *text) {
    struct cli_rng rng = {seed};
    const uint64_t first = cli_rng_below(&rng, CLI_WORDS), second = cli_rng_below(&rng, CLI_WORDS);
    const uint64_t first_step = 1 + cli_rng_below(&rng, CLI_WORDS - 1);
    const uint64_t second_step = 1 + cli_rng_below(&rng, CLI_WORDS - 1);
    const uint64_t row = i / CLI_WORDS, at = i % CLI_WORDS;
    const char *const a = adjectives[(first + first_step * at) % CLI_WORDS];
    const char *const b = nouns[(second + second_step * at + row) % CLI_WORDS];
    if (row < CLI_WORDS) {
        snprintf(text, CLI_NAME_MAX, "%s-%s", a, b);
    } else {
        snprintf(text, CLI_NAME_MAX, "%s-%s-%u", a, b, (unsigned)(row / CLI_WORDS));
    }
}

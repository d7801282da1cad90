/* Chat templates against Jinja2: our own snippets with the renderings it gave
 * (golden/templates.json, written by golden/make_templates.py) and the published templates of
 * ../shared. Then what no reference can say: templates that must end with an error, bounds, memory
 * that runs out, and the families written in C.
 *
 * `test_template --render TEMPLATE.jinja CASES.json` is for comparing with Jinja2 while developing:
 * CASES is a list of objects of variables; a list of {"text"} or {"error", "kind"} comes out. */
#include "heap.h"
#include "support.h"

#include "core/template.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const DATE = "26 Jul 2024";

struct rendered {
    tl_err err;
    tl_bytes text;
    struct kept_log kept;
};

static struct rendered render(tl_str source, const json_t *vars, const char *date) {
    struct rendered r = {0};
    const tl_log log = keep_log(&r.kept);
    r.err = tl_template_render(source, vars, date, &r.text, &log);
    return r;
}

/* `vars` is JSON. */
static struct rendered render_text(const char *source, const char *vars) {
    json_t *const object = json_loads(vars, 0, NULL);
    assert_non_null(object);
    struct rendered r = render(tl_str_from(source), object, DATE);
    json_decref(object);
    return r;
}

static void expect_text(const char *source, const char *vars, const char *expected) {
    struct rendered r = render_text(source, vars);
    if (r.err) {
        fail_msg("%s: %s", source, r.kept.sentence);
    }
    assert_string_equal(r.text.data, expected);
    tl_bytes_free(&r.text);
}

static void expect_error(const char *source, const char *vars, tl_err err, const char *sentence) {
    struct rendered r = render_text(source, vars);
    if (r.err != err || strstr(r.kept.sentence, sentence) == NULL || r.kept.n_errors != 1) {
        fail_msg("%s: error %d, \"%s\"", source, (int)r.err, r.kept.sentence);
    }
    assert_null(r.text.data);
}

static json_t *load(const char *path) {
    json_error_t error;
    json_t *const json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (json == NULL) {
        fail_msg("%s: line %d: %s", path, error.line, error.text);
    }
    return json;
}

static tl_str text_at(const json_t *object, const char *key) {
    const json_t *const s = json_object_get(object, key);
    return (tl_str){json_string_value(s), json_string_length(s)};
}

/* ---- against Jinja2 ---- */

/* "e": the sentence, which stands behind "line N: " unless the template raised it; or true. */
static bool agrees(const json_t *wanted, const struct rendered *r) {
    const tl_str text = text_at(wanted, "r"), sentence = text_at(wanted, "e");
    if (text.data != NULL) {
        return r->err == TL_OK && tl_str_eq(text, (tl_str){r->text.data, r->text.len});
    }
    if (r->err == TL_OK || sentence.data == NULL) {
        return r->err != TL_OK;
    }
    const char *const behind = strncmp(r->kept.sentence, "line ", 5) == 0
                                   ? strstr(r->kept.sentence, ": ") + 2
                                   : r->kept.sentence;
    char wanted_line[sizeof r->kept.sentence]; /* what a log may say is one line */
    snprintf(wanted_line, sizeof wanted_line, "%s", sentence.data);
    for (char *c = wanted_line; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 ? '?' : *c;
    }
    return strcmp(behind, wanted_line) == 0;
}

/* Goal: every construct of the language as Jinja2 has it. Method: our snippets, its renderings. */
static void renders_as_jinja2(void **state) {
    (void)state;
    json_t *const golden = load(TL_SOURCE_DIR "/tests/golden/templates.json");
    const json_t *const cases = json_object_get(golden, "cases");
    size_t n_wrong = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const wanted = json_array_get(cases, i);
        struct rendered r = render(text_at(wanted, "t"), json_object_get(golden, "vars"), DATE);
        if (!agrees(wanted, &r)) {
            char *const line = json_dumps(wanted, 0);
            print_error("%s\n    gave \"%s\" %s\n", line, r.text.data != NULL ? r.text.data : "",
                        r.kept.sentence);
            free(line);
            n_wrong++;
        }
        tl_bytes_free(&r.text);
    }
    print_message("%zu snippets\n", json_array_size(cases));
    assert_true(json_array_size(cases) > 600);
    json_decref(golden);
    assert_int_equal(n_wrong, 0);
}

/* Goal: the templates of published models. Method: 126 renderings by Jinja2 in ../shared. */
static void renders_published_templates(void **state) {
    (void)state;
    shared_or_skip();
    json_t *const expected = load(shared_path("chat-templates/expected.json"));
    const char *const date = json_string_value(json_object_get(expected, "date_string"));
    const json_t *const tests = json_object_get(expected, "tests");
    for (size_t i = 0; i < json_array_size(tests); i++) {
        const json_t *const test = json_array_get(tests, i);
        char name[256];
        snprintf(name, sizeof name, "chat-templates/%s.jinja", text_at(test, "template").data);
        tl_bytes source = read_file(shared_path(name));
        struct rendered r = render((tl_str){source.data, source.len}, test, date);
        const json_t *const error = json_object_get(test, "error");
        if (error != NULL) {
            assert_int_equal(r.err, TL_ERR_FORMAT);
            assert_string_equal(r.kept.sentence, json_string_value(error));
        } else {
            assert_int_equal(r.err, TL_OK);
            assert_string_equal(r.text.data, json_string_value(json_object_get(test, "rendered")));
        }
        tl_bytes_free(&r.text);
        tl_bytes_free(&source);
    }
    print_message("%zu renderings\n", json_array_size(tests));
    assert_true(json_array_size(tests) > 0);
    json_decref(expected);
}

/* ---- errors ---- */

static void says_what_and_where(void **state) {
    (void)state;
    expect_error("{{ raise_exception('Roles must alternate') }}", "{}", TL_ERR_FORMAT,
                 "Roles must alternate");
    expect_error("a\nb\n{{ nope.x }}", "{}", TL_ERR_FORMAT, "line 3: 'nope' is undefined");
    expect_error("\n\n{% if %}", "{}", TL_ERR_FORMAT, "line 3: ");
    expect_error("\n{% include 'x' %}", "{}", TL_ERR_UNSUPPORTED, "line 2: the tag 'include'");
    expect_error("{% extends 'x' %}", "{}", TL_ERR_UNSUPPORTED, "'extends'");
    expect_error("{% import 'x' as y %}", "{}", TL_ERR_UNSUPPORTED, "'import'");
    expect_error("{% block x %}{% endblock %}", "{}", TL_ERR_UNSUPPORTED, "'block'");
    expect_error("{% autoescape true %}{% endautoescape %}", "{}", TL_ERR_UNSUPPORTED,
                 "'autoescape'");
    expect_error("{% for x in [1] recursive %}{% endfor %}", "{}", TL_ERR_UNSUPPORTED,
                 "recursive loops");
    expect_error("{{ 'x' | urlize }}", "{}", TL_ERR_UNSUPPORTED, "'urlize'");
    expect_error("{{ 'x'.encode() }}", "{}", TL_ERR_UNSUPPORTED, "'encode'");
    expect_error("{{ 9223372036854775807 + 1 }}", "{}", TL_ERR_UNSUPPORTED, "64 bits");
    expect_error("{{ 9223372036854775808 }}", "{}", TL_ERR_UNSUPPORTED, "64 bits");
    expect_error("{{ -(-9223372036854775807 - 1) }}", "{}", TL_ERR_UNSUPPORTED, "64 bits");
    expect_error("{{ (-9223372036854775807 - 1) // -1 }}", "{}", TL_ERR_UNSUPPORTED, "64 bits");
    expect_error("{{ '\\ud800' }}", "{}", TL_ERR_FORMAT, "\\u");
    expect_error("\xFF", "{}", TL_ERR_FORMAT, "not UTF-8");
    expect_error("\xED\xA0\x80", "{}", TL_ERR_FORMAT, "not UTF-8");
    expect_error("\xC0\x80", "{}", TL_ERR_FORMAT, "not UTF-8");
    expect_error("{{ 'a\xE2\x82' }}", "{}", TL_ERR_FORMAT, "not UTF-8");
}

/* Goal: nothing is added where rendering fails, and what was there stays. */
static void leaves_the_output_alone(void **state) {
    (void)state;
    tl_bytes out = {0};
    json_t *const vars = json_object();
    assert_int_equal(tl_bytes_add_str(&out, "before"), TL_OK);
    assert_int_equal(tl_template_render(tl_str_from("text {{ nope.x }}"), vars, NULL, &out, NULL),
                     TL_ERR_FORMAT);
    assert_string_equal(out.data, "before");
    assert_int_equal(tl_template_render(tl_str_from(" {{ 1 + 1 }}"), vars, NULL, &out, NULL),
                     TL_OK);
    assert_string_equal(out.data, "before 2");
    assert_int_equal(tl_template_render(tl_str_from(""), vars, NULL, &out, NULL), TL_OK);
    assert_string_equal(out.data, "before 2");
    tl_bytes_free(&out);
    json_decref(vars);
}

static void knows_the_day(void **state) {
    (void)state;
    json_t *const vars = json_object();
    const struct {
        const char *date, *format, *expected;
    } cases[] = {
        {"26 Jul 2024", "%A %d %B %Y %j %u", "Friday 26 July 2024 208 5"},
        {"1 Jan 2000", "%a %d.%m.%y %j", "Sat 01.01.00 001"},
        {"29 Feb 2024", "%A %j", "Thursday 060"},
        {"31 Dec 1999", "%A %j %Y-%m-%d", "Friday 365 1999-12-31"},
        {"01 Mar 2100", "%A %j", "Monday 060"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char source[128];
        snprintf(source, sizeof source, "{{ strftime_now('%s') }}", cases[i].format);
        struct rendered r = render(tl_str_from(source), vars, cases[i].date);
        assert_int_equal(r.err, TL_OK);
        assert_string_equal(r.text.data, cases[i].expected);
        tl_bytes_free(&r.text);
    }
    static const char *const wrong[] = {"today", "", "32 Jul 2024", "1 Foo 2024", "1 Jul 2024 x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(render(tl_str_from("{{ strftime_now('%d') }}"), vars, wrong[i]).err,
                         TL_ERR_FORMAT);
    }
    struct rendered now = render(tl_str_from("{{ strftime_now('%Y') }}"), vars, NULL);
    assert_true(now.err == TL_OK && strcmp(now.text.data, "2023") > 0);
    tl_bytes_free(&now.text);
    json_decref(vars);
}

/* ---- hostile templates ---- */

static void add_many(tl_bytes *b, const char *part, size_t n) {
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tl_bytes_add_str(b, part), TL_OK);
    }
}

/* `open` n times, `middle`, `close` n times. */
static void expect_nested_error(const char *open, const char *middle, const char *close) {
    json_t *const vars = json_object();
    tl_bytes source = {0};
    add_many(&source, open, 100000);
    add_many(&source, middle, 1);
    add_many(&source, close, 100000);
    struct rendered r = render((tl_str){source.data, source.len}, vars, NULL);
    if (r.err == TL_OK) {
        fail_msg("%s is not refused", open);
    }
    tl_bytes_free(&source);
    json_decref(vars);
}

static void refuses_deep_nesting(void **state) {
    (void)state;
    expect_nested_error("{{ ", "1", "");
    expect_nested_error("{% if 1 %}", "x", "{% endif %}");
    expect_nested_error("{% for a in [1] %}", "x", "{% endfor %}");
    expect_nested_error("{% macro m() %}", "x", "{% endmacro %}");
    expect_nested_error("{% set x %}", "x", "{% endset %}");
    expect_nested_error("{% filter upper %}", "x", "{% endfilter %}");
    expect_nested_error("{{ (", "1", ") }}");
    static const char *const openings[] = {"(",    "[",      "{1:",          "not ",  "- ",
                                           "f(",   "a[",     "1 if 1 else ", "1 + (", "x is in [",
                                           "x|d(", "(1 if ", "{'a':[",       "1**-",  "'a'~("};
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        tl_bytes source = {0};
        json_t *const vars = json_object();
        add_many(&source, "{{ ", 1);
        add_many(&source, openings[i], 100000);
        assert_true(render((tl_str){source.data, source.len}, vars, NULL).err != TL_OK);
        tl_bytes_free(&source);
        json_decref(vars);
    }
}

/* Chains are not nested in the source but make deep trees. */
static void refuses_or_renders_long_chains(void **state) {
    (void)state;
    static const struct {
        const char *begin, *part, *end;
    } chains[] = {
        {"{{ 1", " + 1", " }}"},
        {"{{ x", ".a", " }}"},
        {"{{ 'a'", "|upper", " }}"},
        {"{{ 1", " and 1", " }}"},
        {"{{ 1", " == 1", " }}"},
        {"{{ 'a'", " ~ 'a'", " }}"},
        {"{{ 'a'", " 'b'", " }}"},
        {"{{ [", "1,", "] }}"},
        {"{{ x", "()", " }}"},
        {"{{ 1", " is odd", " }}"},
        {"{{ 1", " if 1", " }}"},
        {"{{ 1", "[0]", " }}"},
        {"{% set a", ",a", " = 1 %}"},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}"},
        {"", "{{ a", ""},
        {"", "{% raw %}{% endraw %}", ""},
        {"", "{#", ""},
        {"{% macro m(a", ",a", ") %}{% endmacro %}"},
        {"", "{% set a = 1 %}{{ a }}", ""},
    };
    for (size_t i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        tl_bytes source = {0};
        json_t *const vars = json_object();
        add_many(&source, chains[i].begin, 1);
        add_many(&source, chains[i].part, 50000);
        add_many(&source, chains[i].end, 1);
        struct rendered r = render((tl_str){source.data, source.len}, vars, NULL);
        tl_bytes_free(&r.text);
        tl_bytes_free(&source);
        json_decref(vars);
    }
}

static const char *const endless[] = {
    /* steps */
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% if a %}{% endif %}{% endfor %}"
    "{% endfor %}",
    "{% macro m() %}{% for i in range(9) %}{{ m() }}{% endfor %}{% endmacro %}{{ m() }}",
    "{% set x = range(99999)|list %}{% for a in x %}{{ a in x }}{% endfor %}",
    "{{ range(100000)|map('string')|unique|list|length }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b' in x }}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% set y = 'a' * 500000 ~ 'b' %}{{ y in x }}",
    "{% set x = 'a' * 1000000 %}{{ x.rfind('b' ~ 'a' * 500000) }}",
    "{% set x = 'ab' * 500000 %}{{ x.strip(x) }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x == x ~ '' }}{% endfor %}",
    "{% set x = 'é' * 500000 %}{% for i in range(100000) %}{{ x[400000] }}{% endfor %}",
    "{% set x = ' ' * 1000000 %}{% for i in range(100000) %}{{ x.strip() }}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x[1:]|length }}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% set y = x.split() %}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% set y = x.rsplit('b') %}{% endfor "
    "%}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x.isalpha() }}{% endfor %}",
    "{% set x = 'é' * 500000 %}{% for i in range(100000) %}{{ x is lower }}{% endfor %}",
    "{% set x = 'é' * 500000 %}{% for i in range(100000) %}{{ x|wordcount }}{% endfor %}",
    "{% set x = 'é' * 500000 %}{% for i in range(100000) %}{{ x.find('a', 499999) }}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x.removeprefix(x)|length }}"
    "{% endfor %}",
    "{% set x = range(100000)|list %}{% for i in range(100000) %}{{ x.count(1) }}{% endfor %}",
    "{% set x = range(100000)|list %}{% for i in range(100000) %}{{ x|sort|first }}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in range(100000) %}{% for k in range(100000) %}"
    "{% set ns.x = k %}{% endfor %}{% endfor %}",
    /* memory */
    "{{ 'a' * 10000000000 }}",
    "{{ [1] * 10000000000 }}",
    "{{ 'a' * 9223372036854775807 }}",
    "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x * 2 %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}",
    "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}",
    "{{ 'a'.center(9000000000) }}",
    "{{ 'a'|center(9000000000) }}",
    "{{ 'a'.zfill(9223372036854775807) }}",
    "{{ 'a'|indent(9223372036854775807, true) }}",
    "{{ '%9000000000d' % 1 }}",
    "{{ '{:9000000000}'.format(1) }}",
    "{{ '%.900000000f' % 1.5 }}",
    "{{ [[[1]]]|tojson(indent=9223372036854775807) }}",
    "{{ [1]|batch(9223372036854775807, 'x')|list }}",
    "{{ [1]|slice(9223372036854775807)|list }}",
    "{{ 'x'.replace('', 'y' * 1000000).replace('', 'y' * 1000000) }}",
    "{{ (('a' * 100000)|list)|join('b' * 100000) }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ strftime_now('%1000d' * 100000) }}",
    "{{ range(9223372036854775807) }}",
    "{{ range(-9223372036854775807, 9223372036854775807) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% macro m(x=m()) %}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% call m() %}{% endcall %}{{ caller() }}{% endmacro %}"
    "{% call m() %}{% endcall %}",
    "{% macro m(c) %}{{ m(m) }}{% endmacro %}{{ m(1) }}",
    /* depth of values */
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x }}",
    "{% set ns = namespace(x={}) %}{% for i in range(5000) %}{% set ns.x = {'a': ns.x} %}"
    "{% endfor %}{{ ns.x|tojson }}",
    "{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}"
    "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "{% set ns = namespace(x=[], y=[1]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}"
    "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x < ns.y }}",
    "{% set ns = namespace(x=[1]|map('string')) %}{% for i in range(5000) %}"
    "{% set ns.x = ns.x|map('string') %}{% endfor %}{{ ns.x|list }}",
    "{% set ns = namespace(x=[1]|select) %}{% for i in range(5000) %}"
    "{% set ns.x = ns.x|select|reject('none') %}{% endfor %}{{ ns.x|first }}",
};

static void stops_what_does_not_end(void **state) {
    (void)state;
    uint64_t ms_max = 0;
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        const clock_t begin = clock(); /* of this process: others may hold the machine up */
        struct rendered r = render_text(endless[i], "{}");
        const uint64_t ms = (uint64_t)(clock() - begin) / (CLOCKS_PER_SEC / 1000);
        if (r.err == TL_OK || r.kept.n_errors != 1 || ms > 10000) {
            fail_msg("%s: error %d \"%s\" after %u ms", endless[i], (int)r.err, r.kept.sentence,
                     (unsigned)ms);
        }
        ms_max = tl_max_u64(ms, ms_max);
    }
    print_message("the longest took %u ms\n", (unsigned)ms_max);
}

/* Goal: no reference to a frame, a loop or an iterator outlives or misses what it refers to. */
static void keeps_frames_apart(void **state) {
    (void)state;
    /* A macro that asks for the next item runs the loop's condition in the loop's own frame. */
    expect_text("{% macro m() %}{% set p = 1 %}{% set q = 2 %}{{ loop_.last }}{% endmacro %}"
                "{% set loop_ = namespace(last=0) %}"
                "{% for x in [1, 2, 3] if x != 2 %}{% macro k() %}{{ loop.last }}{{ x }}"
                "{% endmacro %}{{ k() }};{% endfor %}{{ m() }}",
                "{}", "False1;True3;0");
    expect_text("{% set ns = namespace() %}{% for x in [1, 2] %}{% set ns.l = loop %}{% endfor %}"
                "{{ ns.l.index }}{{ ns.l.last }}{{ ns.l.length }}",
                "{}", "3True2");
    expect_text("{% set g = [1, 2, 3]|map('string') %}{% for x in g %}{{ x }}{{ g|list }}"
                "{% endfor %}",
                "{}", "1['2', '3']");
    expect_text("{% filter upper %}a{% filter replace('B', 'c') %}b{% endfilter %}{% endfilter %}",
                "{}", "AB");
    expect_text("{% macro m(n) %}{% filter upper %}{{ n }}x{% if n %}{{ m(n - 1) }}{% endif %}"
                "{% endfilter %}{% endmacro %}{{ m(2) }}",
                "{}", "2X1X0X");
}

/* ---- size ---- */

/* Goal: a document of a megabyte is nothing unusual. */
static void renders_a_large_document(void **state) {
    (void)state;
    static const char source[] =
        "{%- set ns = namespace(all='') -%}{%- for m in messages -%}{%- set c = m.content|trim -%}"
        "{%- if '</think>' in c -%}{%- set c = c.split('</think>')[-1].lstrip('\\n') -%}{%- endif "
        "-%}"
        "{%- set ns.all = ns.all + '<|' + m.role + '|>' + c + '<|end|>\\n' -%}{%- endfor -%}"
        "{{ ns.all | replace('\\r\\n', '\\n') }}{{ messages[0].content|length }}"
        "{{ messages[0]['content'][:10]|upper }}{{ (messages|tojson)|length > 0 }}";
    tl_bytes document = {0};
    add_many(&document, "It is a truth universally acknowledged, d\xC3\xA9j\xC3\xA0 vu. ", 24000);
    json_t *const vars = json_pack("{s:[{s:s,s:s%}]}", "messages", "role", "user", "content",
                                   document.data, document.len);
    assert_true(document.len > 1000000);
    const uint64_t begin = tl_now_ns();
    struct rendered r = render(tl_str_from(source), vars, NULL);
    print_message("%zu bytes rendered in %u ms\n", r.text.len,
                  (unsigned)((tl_now_ns() - begin) / 1000000));
    assert_int_equal(r.err, TL_OK);
    assert_memory_equal(r.text.data, "<|user|>It is a truth", 21);
    assert_true(r.text.len > document.len);
    tl_bytes_free(&r.text);
    tl_bytes_free(&document);
    json_decref(vars);
}

/* ---- damage and want ---- */

static const char rich[] =
    "{%- macro m(a, b='x', *c) %}{% endmacro %}\n{# c #}{% raw %}{{ }}{% endraw %}"
    "{%- macro show(t, n=1) -%}{{ t|upper }}{{ caller() if caller is defined }}{% endmacro -%}\n"
    "{% set ns = namespace(a=[1, 2.5, 'x\\n\\u00e9']) %}{% for k, v in messages[0].items() if v "
    "-%}\n"
    "  {% if loop.first and not loop.last %}{{ k ~ v }}{% elif k is string %}{% continue %}"
    "{% else %}{% break %}{% endif %}{% else %}none{% endfor %}{% call(x) show('q') %}{{ x }}"
    "{% endcall %}{% filter indent(2)|trim %}{{ ns.a[1:]|tojson(indent=2) }}{% endfilter %}"
    "{% set b %}{{ '%s-%d' % ('a', 3) }}{{ '{:>5}'.format('z') }}{% endset %}{% with z = b %}{{ z "
    "}}"
    "{% endwith %}{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list "
    "}}"
    "{{ {'a': (1, [2])}['a'][1][0] ** 2 // 3 % 4 }}{{ strftime_now('%d %b %Y') }}"
    "{% generation %}{{ 'é'|upper }}{% endgeneration %}";
static const char rich_vars[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"h\\u00e9\"}], \"tools\": [1, null, 2.5]}";

/* Every prefix, and every one with a byte changed, from a buffer that sanitizers see the end of. */
static void survives_damage(void **state) {
    (void)state;
    json_t *const vars = json_loads(rich_vars, 0, NULL);
    struct tl_rng rng = {20240726};
    for (size_t n = 0; n < sizeof rich; n++) {
        for (unsigned i = 0; i < 8; i++) {
            char *const copy = malloc(n + 1);
            memcpy(copy, rich, n);
            for (unsigned k = 0; n > 0 && k < i; k++) {
                static const char alphabet[] = "{}%#-+()[]'\".,|:=~*/ \n01axif";
                copy[rng_below(&rng, n)] = alphabet[rng_below(&rng, sizeof alphabet - 1)];
            }
            char *const exact = malloc(n > 0 ? n : 1);
            memcpy(exact, copy, n);
            struct rendered r = render((tl_str){exact, n}, vars, DATE);
            tl_bytes_free(&r.text);
            free(exact);
            free(copy);
        }
    }
    json_decref(vars);
}

/* Goal: no memory is an error like any other, and nothing leaks. */
static void survives_want_of_memory(void **state) {
    (void)state;
    json_t *const vars = json_loads(rich_vars, 0, NULL);
    static const char source[] =
        "{% for i in range(3000) %}{% set x = [i, 'y' ~ i]|tojson %}{{ x }}"
        "{% endfor %}{{ messages }}";
    uint64_t n_failed = 0;
    for (uint64_t fail_at = 1;; fail_at++) {
        tl_bytes out = {0};
        heap_watch(fail_at);
        const tl_err err = tl_template_render(tl_str_from(source), vars, DATE, &out, NULL);
        tl_bytes_free(&out);
        const struct heap_report report = heap_unwatch();
        assert_int_equal(report.n_live, 0);
        if (err == TL_OK) {
            break;
        }
        assert_int_equal(err, TL_ERR_MEMORY);
        n_failed++;
    }
    assert_true(n_failed > 3);
    json_decref(vars);
}

/* ---- families ---- */

static const char chat[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    "{\"role\": \"user\", \"content\": \" Hi \"}, {\"role\": \"assistant\", \"content\": \"Yo\"},"
    "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Why\"},"
    "{\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"?\"}]}],"
    "\"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";

static void falls_back_to_families(void **state) {
    (void)state;
    static const struct {
        const char *source, *family, *text;
    } cases[] = {
        {"{{ '<|im_start|>' + role }} <|im_end|> {% nope %}", "ChatML",
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
         "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
         "<|im_start|>assistant\n"},
        {"<|start_header_id|> <|end_header_id|>", "Llama 3",
         "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"[INST] <<SYS>> [/INST]", "Llama 2",
         "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yo </s><s>[INST] Why? [/INST]"},
        {"[INST] [/INST]", "Mistral",
         "<s>[INST] Be brief.\n\n Hi  [/INST]Yo</s>[INST] Why? [/INST]"},
        {"<start_of_turn> <end_of_turn>", "Gemma",
         "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo"
         "<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"},
        {"<|user|> <|end|>", "Phi-3",
         "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi <|end|>\n<|assistant|>\nYo<|end|>\n"
         "<|user|>\nWhy?<|end|>\n<|assistant|>\n"},
    };
    json_t *const vars = json_loads(chat, 0, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_bytes out = {0};
        const char *family = NULL;
        assert_int_equal(
            tl_template_fallback(tl_str_from(cases[i].source), vars, &out, &family, NULL), TL_OK);
        assert_string_equal(family, cases[i].family);
        assert_string_equal(out.data, cases[i].text);
        tl_bytes_free(&out);
    }
    json_decref(vars);
}

static void refuses_unknown_families(void **state) {
    (void)state;
    static const char *const unknown[] = {"", "{{ messages }}", "<|im_start|>", "[INST]"};
    json_t *const vars = json_loads(chat, 0, NULL), *const none = json_object();
    const char *family = NULL;
    struct kept_log kept;
    const tl_log log = keep_log(&kept);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        tl_bytes out = {0};
        assert_int_equal(tl_template_fallback(tl_str_from(unknown[i]), vars, &out, &family, &log),
                         TL_ERR_UNSUPPORTED);
        assert_null(out.data);
    }
    tl_bytes out = {0};
    assert_int_equal(tl_template_fallback(tl_str_from("[INST] [/INST]"), none, &out, &family, &log),
                     TL_ERR_FORMAT);
    assert_null(family);
    json_decref(none);
    json_decref(vars);
}

/* Goal: what the families write is what their published templates write. */
static void families_are_as_published(void **state) {
    (void)state;
    shared_or_skip();
    static const struct {
        const char *path, *family, *vars;
    } cases[] = {
        {"google-gemma-2-2b-it", "Gemma",
         "{\"messages\": [{\"role\": \"user\", \"content\": \" a \"}, {\"role\": \"assistant\", "
         "\"content\": \"b\\n\"}], \"bos_token\": \"<bos>\", \"add_generation_prompt\": true}"},
        {"Qwen-Qwen2.5-7B-Instruct", "ChatML",
         "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
         "\"content\": \" a \"}], \"add_generation_prompt\": true}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[256];
        const char *family = NULL;
        tl_bytes out = {0};
        json_t *const vars = json_loads(cases[i].vars, 0, NULL);
        snprintf(name, sizeof name, "chat-templates/%s.jinja", cases[i].path);
        tl_bytes source = read_file(shared_path(name));
        const tl_str text = {source.data, source.len};
        struct rendered r = render(text, vars, DATE);
        assert_int_equal(tl_template_fallback(text, vars, &out, &family, NULL), TL_OK);
        assert_string_equal(family, cases[i].family);
        assert_string_equal(out.data, r.text.data);
        tl_bytes_free(&r.text);
        tl_bytes_free(&out);
        tl_bytes_free(&source);
        json_decref(vars);
    }
}

/* ---- main ---- */

static int render_cases(const char *template_path, const char *cases_path) {
    tl_bytes source = read_file(template_path);
    json_t *const cases = load(cases_path), *const results = json_array();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct rendered r =
            render((tl_str){source.data, source.len}, json_array_get(cases, i), DATE);
        json_array_append_new(
            results, r.err ? json_pack("{s:s,s:i}", "error", r.kept.sentence, "kind", (int)r.err)
                           : json_pack("{s:s%}", "text", r.text.data, r.text.len));
        tl_bytes_free(&r.text);
    }
    json_dumpf(results, stdout, 0);
    json_decref(results);
    json_decref(cases);
    tl_bytes_free(&source);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--render") == 0) {
        return render_cases(argv[2], argv[3]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_jinja2),
        cmocka_unit_test(renders_published_templates),
        cmocka_unit_test(says_what_and_where),
        cmocka_unit_test(leaves_the_output_alone),
        cmocka_unit_test(knows_the_day),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(refuses_or_renders_long_chains),
        cmocka_unit_test(stops_what_does_not_end),
        cmocka_unit_test(keeps_frames_apart),
        cmocka_unit_test(renders_a_large_document),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(survives_want_of_memory),
        cmocka_unit_test(falls_back_to_families),
        cmocka_unit_test(refuses_unknown_families),
        cmocka_unit_test(families_are_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
